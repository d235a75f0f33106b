"""The lake as a database: its tables, the views over them, vector functions and searches, by name."""

from dataclasses import dataclass

from pyspark import SparkFiles
from pyspark.sql import SparkSession
from pyspark.sql.functions import udtf

from jobs.core.lake import Lake
from jobs.index.builds import INDEXES
from jobs.sql.aggregates import register_aggregates
from jobs.sql.definitions import Definitions
from jobs.sql.drift_function import drift_function
from jobs.sql.encode_function import register_encode_query
from jobs.sql.functions import VECTOR_FUNCTIONS, system_functions
from jobs.sql.search_functions import search_functions
from jobs.sql.views import VIEWS
from schemas import ALL_TABLES, INDEX_BUILDS
from schemas.table import Table, sql_literal, sql_path

DATABASE = "make"
_IN_MEMORY = "in-memory"


@dataclass(frozen=True)
class Registered:
    """What the session knows now, and which tables the lake does not have yet."""

    tables: list[str]
    views: list[str]
    functions: list[str]
    absent: list[str]


def register(spark: SparkSession, lake: Lake, *, database: str = DATABASE) -> Registered:
    """Make the lake's tables, views and functions known by name, and their database the session's.

    Nothing is written to the lake.  Tables come as views, so that a statement here cannot change one by mistake; they
    show the newest version at every query.  Views and vector functions are the database's, and last as long as the
    session's catalog: with a Hive metastore, beyond the session.

    Args:
        spark: The session.
        lake: The lake.
        database: The name of the database.
    """
    known = register_again(spark, lake, database=database)
    spark.sql(f"USE {database}")
    return known


def register_again(spark: SparkSession, lake: Lake, *, database: str) -> Registered:
    """The same after tables were added; the session stays in whichever database it is."""
    spark.sql(f"CREATE DATABASE IF NOT EXISTS {database}{_location(spark, database)}")
    present = [table for table in ALL_TABLES if lake.exists(table)]
    definitions = Definitions(spark, database)
    for table in present:
        _put_table_view(definitions, table, lake.table_uri(table))
    views = [view for view in VIEWS if all(table in present for table in view.reads)]
    for view in views:
        definitions.put_view(view.name, view.query.format(database=database), comment=view.comment)
    own = system_functions(spark)
    functions = [function for function in VECTOR_FUNCTIONS if function.name not in own]
    for function in functions:
        definitions.put_function(function)
    of_session = register_session(spark, indexes=lake.uri(INDEXES), models=lake.uri("models"), database=database)
    return Registered(
        tables=[table.name for table in present],
        views=[view.name for view in views],
        functions=[*(function.name for function in functions), *of_session],
        absent=[table.name for table in ALL_TABLES if table not in present],
    )


def register_session(spark: SparkSession, *, indexes: str, models: str, database: str = DATABASE) -> list[str]:
    """Make the functions known that every session has of its own, for Python runs them; returns their names.

    Args:
        spark: The session; one of Spark Connect too.
        indexes: Folder of all builds, a path or URL that workers reach.
        models: Folder of all models, likewise.
        database: Where the lake's tables are known by name.
    """
    handlers = {**search_functions(indexes=indexes, models=models), "drift_between": drift_function(indexes=indexes)}
    for name, handler in handlers.items():
        spark.udtf.register(name, udtf(handler))
    names = list(handlers)
    names += register_aggregates(spark, but=system_functions(spark))
    if spark.catalog.tableExists(f"{database}.{INDEX_BUILDS.name}"):
        names += register_encode_query(spark, database=database, models=models)
    return names


def _location(spark: SparkSession, database: str) -> str:
    """Where the database's folder is: it holds nothing, for all that the database has is views and functions."""
    if spark.conf.get("spark.sql.catalogImplementation") != _IN_MEMORY:
        return ""  # a metastore's database outlives the session, so its folder lies where the metastore keeps them
    return f" LOCATION {sql_literal(f'{SparkFiles.getRootDirectory()}/{database}')}"


def _put_table_view(definitions: Definitions, table: Table, uri: str) -> None:
    columns = ", ".join(f"`{column.name}` COMMENT {sql_literal(column.comment)}" for column in table.columns)
    names = ", ".join(f"`{column.name}`" for column in table.columns)
    query = f"SELECT {names} FROM {sql_path(uri)}"  # noqa: S608 - names are declared, the path is quoted
    definitions.put_view(table.name, query, comment=table.comment, columns=f"({columns})")
