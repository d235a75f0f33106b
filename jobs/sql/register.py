"""The lake as the database `make` of a session: its tables, the views over them, vector functions and search."""

import tempfile
from dataclasses import dataclass

from pyspark.sql import SparkSession

from jobs.core.lake import Lake
from jobs.index.builds import INDEXES
from jobs.sql.functions import create_vector_functions
from jobs.sql.search_function import register_search
from jobs.sql.views import VIEWS
from schemas import ALL_TABLES
from schemas.table import Table, sql_literal, sql_path

DATABASE = "make"


@dataclass(frozen=True)
class Registered:
    """What the session knows now, and which tables the lake does not have yet."""

    tables: list[str]
    views: list[str]
    functions: list[str]
    absent: list[str]


def register(spark: SparkSession, lake: Lake) -> Registered:
    """Make the lake's tables, views and functions known by name, and `make` the session's database.

    Nothing is written to the lake.  Tables come as views, so that a statement here cannot change one by mistake; they
    show the newest version at every query.  Registering again, after tables were added, is cheap and safe.
    """
    # The folder only satisfies Spark: the database holds views and functions, no data.
    location = tempfile.mkdtemp(prefix="make-sql-")
    spark.sql(f"CREATE DATABASE IF NOT EXISTS {DATABASE} LOCATION {sql_literal(location)}")
    present = [table for table in ALL_TABLES if lake.exists(table)]
    for table in present:
        _create_table_view(spark, table, lake.table_uri(table))
    views = [view for view in VIEWS if all(table in present for table in view.reads)]
    for view in views:
        spark.sql(f"CREATE OR REPLACE VIEW {DATABASE}.{view.name} COMMENT {sql_literal(view.comment)} AS {view.query}")
    functions = create_vector_functions(spark, DATABASE)
    register_search(spark, indexes=lake.uri(INDEXES), models=lake.uri("models"))
    spark.catalog.setCurrentDatabase(DATABASE)
    return Registered(
        tables=[table.name for table in present],
        views=[view.name for view in views],
        functions=[*functions, "search"],
        absent=[table.name for table in ALL_TABLES if table not in present],
    )


def _create_table_view(spark: SparkSession, table: Table, uri: str) -> None:
    columns = ", ".join(f"`{column.name}` COMMENT {sql_literal(column.comment)}" for column in table.columns)
    names = ", ".join(f"`{column.name}`" for column in table.columns)
    head = f"CREATE OR REPLACE VIEW {DATABASE}.{table.name} ({columns}) COMMENT {sql_literal(table.comment)}"
    spark.sql(f"{head} AS SELECT {names} FROM {sql_path(uri)}")  # noqa: S608 - names are declared, the path is quoted
