"""How a table of the lake is declared, created and verified.

A `Table` is the single source of a table's columns, comments, constraints, layout and properties.  Jobs create and
check tables from it, and `python -m schemas` prints the reference page `docs/tables.md` from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DateType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

STRING = StringType()
INT = IntegerType()
LONG = LongType()
FLOAT = FloatType()
DOUBLE = DoubleType()
BOOLEAN = BooleanType()
DATE = DateType()
TIMESTAMP = TimestampType()
BINARY = BinaryType()
FLOATS = ArrayType(FLOAT)  # Spark casts no array to one without nulls; the norm checks refuse them
STRINGS = ArrayType(STRING, containsNull=False)
FIGURES = MapType(STRING, DOUBLE, valueContainsNull=True)
VERSIONS = MapType(STRING, LONG, valueContainsNull=False)

# Types whose minimum and maximum help no reader and cost every writer, or that Delta keeps none of.
_WITHOUT_STATISTICS = (BinaryType, BooleanType, ArrayType, MapType, StructType)


class SchemaMismatchError(ValueError):
    """A table in the lake differs from its declaration."""


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        name: Column name, snake_case.
        type: Spark type.
        comment: What it holds, with its unit; stored in the table.
        nullable: False puts NOT NULL on the table.
        provenance: True for run ids and clocks: who wrote a row and when, which says nothing about its content.
            Such columns are left out when rows are compared.
    """

    name: str
    type: DataType
    comment: str
    nullable: bool = True
    provenance: bool = False

    @property
    def sql(self) -> str:
        """The column's line in a CREATE TABLE statement."""
        null = "" if self.nullable else " NOT NULL"
        return f"`{self.name}` {self.type.simpleString()}{null} COMMENT {sql_literal(self.comment)}"


@dataclass(frozen=True)
class Table:
    """One Delta table of the lake.

    Args:
        name: Folder below `tables/`, and the table's name in SQL.
        comment: One sentence on what a row is.
        columns: In the order in which they are stored.
        key: Columns that identify a row; empty for append-only records without identity.
        partitioned_by: Partition columns.
        checks: Constraint name to SQL predicate.  Delta treats NULL as a violation.
        properties: Delta table properties beside the common ones.
    """

    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    partitioned_by: tuple[str, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        unknown = (set(self.key) | set(self.partitioned_by)) - set(names)
        if unknown:
            raise ValueError(f"{self.name}: key or partition names no column: {sorted(unknown)}")
        if len(set(names)) != len(names):
            raise ValueError(f"{self.name}: a column is declared twice in {names}")

    @property
    def schema(self) -> StructType:
        """The columns as a Spark schema."""
        return StructType([StructField(c.name, c.type, c.nullable) for c in self.columns])

    @property
    def column_names(self) -> list[str]:
        """Names in stored order."""
        return [c.name for c in self.columns]

    @property
    def content_columns(self) -> list[str]:
        """Columns that carry content: neither key nor provenance."""
        return [c.name for c in self.columns if not c.provenance and c.name not in self.key]

    @property
    def table_properties(self) -> dict[str, str]:
        """Every Delta property that the table is created with, constraints among them."""
        with_statistics = [
            c.name
            for c in self.columns
            if not isinstance(c.type, _WITHOUT_STATISTICS) and c.name not in self.partitioned_by
        ]
        return {
            "delta.enableDeletionVectors": "true",
            "delta.dataSkippingStatsColumns": ",".join(with_statistics),
            **self.properties,
            **{f"delta.constraints.{name}": predicate for name, predicate in self.checks.items()},
        }

    def create(self, spark: SparkSession, path: str) -> None:
        """Create the empty table at `path`, in one commit, when there is none."""
        columns = ",\n  ".join(c.sql for c in self.columns)
        partitions = f"PARTITIONED BY ({', '.join(self.partitioned_by)})\n" if self.partitioned_by else ""
        properties = ", ".join(f"{sql_literal(k)} = {sql_literal(v)}" for k, v in self.table_properties.items())
        spark.sql(
            f"CREATE TABLE IF NOT EXISTS {sql_path(path)} (\n  {columns}\n) USING DELTA\n{partitions}"
            f"COMMENT {sql_literal(self.comment)}\nTBLPROPERTIES ({properties})"
        )

    def verify(self, spark: SparkSession, path: str) -> None:
        """Compare the table at `path` with this declaration.

        Raises:
            SchemaMismatchError: A column, type, constraint or the partitioning differs; all differences are named.
        """
        # Only the log's newest metadata is read: DESCRIBE DETAIL would list all files, a Spark job a table.
        stored = {f.name: f.dataType for f in DeltaTable.forPath(spark, path).toDF().schema}
        properties = {row["key"]: row["value"] for row in spark.sql(f"SHOW TBLPROPERTIES {sql_path(path)}").collect()}
        stored_checks = {
            name.removeprefix("delta.constraints."): predicate
            for name, predicate in properties.items()
            if name.startswith("delta.constraints.")
        }
        partitions = _partition_columns(spark, path)
        declared = {c.name: c.type for c in self.columns}
        differences = [f"column {name} is missing" for name in declared if name not in stored]
        differences += [f"column {name} is not declared" for name in stored if name not in declared]
        differences += [
            f"column {name} is {stored[name].simpleString()}, declared {kind.simpleString()}"
            for name, kind in declared.items()
            if name in stored and stored[name].simpleString() != kind.simpleString()
        ]
        differences += [
            f"constraint {name} is {stored_checks.get(name, 'missing')}, declared {predicate}"
            for name, predicate in self.checks.items()
            if stored_checks.get(name) != predicate
        ]
        if partitions != list(self.partitioned_by):
            differences.append(f"partitioned by {partitions}, declared {list(self.partitioned_by)}")
        if differences:
            raise SchemaMismatchError(
                f"table {self.name} at {path} is not as declared: {'; '.join(differences)}. "
                "Move it aside and let the job create it anew, or run the release that wrote it."
            )

    def conform(self, rows: DataFrame) -> DataFrame:
        """`rows` with exactly the declared columns, in order, cast to the declared types.

        Raises:
            SchemaMismatchError: A declared column is absent or an undeclared one present.
        """
        came, declared = set(rows.columns), set(self.column_names)
        if came != declared:
            raise SchemaMismatchError(
                f"table {self.name}: rows lack {sorted(declared - came)} and carry undeclared {sorted(came - declared)}"
            )
        return rows.select([rows[c.name].cast(c.type).alias(c.name) for c in self.columns])


def _partition_columns(spark: SparkSession, path: str) -> list[str]:
    """What follows the heading `# col_name` of DESCRIBE TABLE."""
    names = [row["col_name"] for row in spark.sql(f"DESCRIBE TABLE {sql_path(path)}").collect()]
    return [name for name in names[names.index("# col_name") + 1 :] if name] if "# col_name" in names else []


def sql_literal(text: str) -> str:
    """Text as a string literal of a SQL statement, for the places where Spark takes no parameter."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def sql_path(path: str) -> str:
    """A Delta table's path as a table name of a SQL statement."""
    return "delta.`" + path.replace("`", "``") + "`"
