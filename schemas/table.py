"""How a table of the lake is declared, created and verified.

A `Table` is the single source of a table's columns, comments, constraints, layout and properties.  Jobs create and
check tables from it, and `python -m schemas` prints the reference page `docs/tables.md` from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

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


# How Delta names the property that holds a constraint's predicate.
_CONSTRAINT = "delta.constraints."


class SchemaMismatchError(ValueError):
    """A table in the lake differs from its declaration."""


@dataclass(frozen=True)
class Difference:
    """One thing in which a table of the lake differs from its declaration.

    Attributes:
        text: What differs.
        mended_by: Statements that bring the table to the declaration; none where it cannot be done in place.
        is_refused: Whether jobs refuse the table for it.
    """

    text: str
    mended_by: tuple[str, ...] = ()
    is_refused: bool = True


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
        derived: True for what follows from the row's key and its other content: rows need not be compared by it.
        statistics: False for texts that may quote a product: the least and the greatest of a file would stand in the
            table's log, which outlives the file.
    """

    name: str
    type: DataType
    comment: str
    nullable: bool = True
    provenance: bool = False
    derived: bool = False
    statistics: bool = True

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
        """Columns that tell whether two rows of one key hold the same: neither provenance nor derived."""
        return [c.name for c in self.columns if not (c.provenance or c.derived or c.name in self.key)]

    @property
    def table_properties(self) -> dict[str, str]:
        """Every Delta property that the table is created with, constraints among them."""
        with_statistics = [
            c.name
            for c in self.columns
            if c.statistics and not isinstance(c.type, _WITHOUT_STATISTICS) and c.name not in self.partitioned_by
        ]
        return {
            "delta.enableDeletionVectors": "true",
            "delta.dataSkippingStatsColumns": ",".join(with_statistics),
            **self.properties,
            **{f"{_CONSTRAINT}{name}": predicate for name, predicate in self.checks.items()},
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
            SchemaMismatchError: A column, constraint, property or the partitioning differs; all differences are named.
        """
        refused = [difference.text for difference in self.differences(spark, path) if difference.is_refused]
        if refused:
            raise SchemaMismatchError(
                f"table {self.name} at {path} is not as declared: {'; '.join(refused)}. If an older release wrote it, "
                "run `python -m jobs operations migrate` once, with no other job at work; if a newer one, run that."
            )

    def migrate(self, spark: SparkSession, path: str) -> list[str]:
        """Bring the table at `path` to this declaration; its rows stay as they are.

        Returns:
            What was different; empty when nothing was.

        Raises:
            SchemaMismatchError: Something differs that cannot be changed in place; nothing was changed.
        """
        differences = self.differences(spark, path)
        stuck = [difference.text for difference in differences if not difference.mended_by]
        if stuck:
            raise SchemaMismatchError(
                f"table {self.name} at {path} cannot be brought to its declaration: {'; '.join(stuck)}. "
                "Move it aside and let the jobs create it anew, or run the release that wrote it."
            )
        for difference in differences:
            for statement in difference.mended_by:
                spark.sql(statement)
        return [difference.text for difference in differences]

    def differences(self, spark: SparkSession, path: str) -> list[Difference]:
        """How the table at `path` differs from this declaration."""
        # The log's newest metadata says it all; Spark's statements for it take half a second a table.
        log = spark._jvm.org.apache.spark.sql.delta.DeltaLog
        metadata = log.forTableWithSnapshot(spark._jsparkSession, path)._2().metadata()
        as_python = spark._jvm.scala.jdk.javaapi.CollectionConverters.asJava
        stored = {field.name: field for field in StructType.fromJson(json.loads(metadata.schemaString()))}
        alter = f"ALTER TABLE {sql_path(path)}"
        return [
            *self._columns_that_differ(stored, alter),
            *self._properties_that_differ(dict(as_python(metadata.configuration())), alter),
            *self._partitions_that_differ(list(as_python(metadata.partitionColumns()))),
        ]

    def _columns_that_differ(self, stored: Mapping[str, StructField], alter: str) -> Iterator[Difference]:
        for column in self.columns:
            field = stored.get(column.name)
            if field is None:
                # Rows that are there have no value for it.
                add = (f"{alter} ADD COLUMNS ({column.sql})",) if column.nullable else ()
                yield Difference(f"column {column.name} is missing", mended_by=add)
                continue
            came, declared = field.dataType.simpleString(), column.type.simpleString()
            if came != declared:
                yield Difference(f"column {column.name} is {came}, declared {declared}")
            if field.metadata.get("comment") != column.comment:
                comment = f"{alter} ALTER COLUMN `{column.name}` COMMENT {sql_literal(column.comment)}"
                yield Difference(f"column {column.name} is explained anew", mended_by=(comment,), is_refused=False)
        for name in stored.keys() - set(self.column_names):
            yield Difference(f"column {name} is not declared")

    def _properties_that_differ(self, stored: Mapping[str, str], alter: str) -> Iterator[Difference]:
        for name, predicate in self.checks.items():
            came = stored.get(f"{_CONSTRAINT}{name}")
            if came is None or _without_spaces(came) != _without_spaces(predicate):
                drop = f"{alter} DROP CONSTRAINT IF EXISTS {name}"
                add = f"{alter} ADD CONSTRAINT {name} CHECK ({predicate})"
                text = f"constraint {name} is {came or 'missing'}, declared {predicate}"
                yield Difference(text, mended_by=(drop, add))
        for name in sorted(key.removeprefix(_CONSTRAINT) for key in stored if key.startswith(_CONSTRAINT)):
            if name not in self.checks:
                drop = f"{alter} DROP CONSTRAINT {name}"
                yield Difference(f"constraint {name} is not declared", mended_by=(drop,))
        for name, value in self.table_properties.items():
            if not name.startswith(_CONSTRAINT) and stored.get(name) != value:
                put = f"{alter} SET TBLPROPERTIES ({sql_literal(name)} = {sql_literal(value)})"
                text = f"property {name} is {stored.get(name, 'missing')}, declared {value}"
                yield Difference(text, mended_by=(put,))

    def _partitions_that_differ(self, stored: list[str]) -> Iterator[Difference]:
        if stored != list(self.partitioned_by):
            yield Difference(f"partitioned by {stored}, declared {list(self.partitioned_by)}")

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


def _without_spaces(predicate: str) -> str:
    """ALTER TABLE stores a predicate with a space around every word and sign."""
    return "".join(predicate.split())


def sql_literal(text: str) -> str:
    """Text as a string literal of a SQL statement, for the places where Spark takes no parameter."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def sql_path(path: str) -> str:
    """A Delta table's path as a table name of a SQL statement."""
    return "delta.`" + path.replace("`", "``") + "`"
