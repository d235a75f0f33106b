"""Views and functions of a database, written only where they differ from what is there.

Replacing a view takes it away for a moment; in a catalog that sessions share, others would not find it then, and two
that replace it at once would get in each other's way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from jobs.sql.functions import VectorFunction
from schemas.table import sql_literal

_DIGEST = "make.definition"
_ALREADY_THERE = "AlreadyExists"


class Definitions:
    """What a database defines.

    Args:
        spark: The session.
        database: The database.
    """

    def __init__(self, spark: SparkSession, database: str) -> None:
        self._spark, self._database = spark, database
        self._views = {row["viewName"] for row in spark.sql(f"SHOW VIEWS IN {database}").collect()}
        functions = spark.sql(f"SHOW USER FUNCTIONS IN {database}").collect()
        self._functions = {row["function"].rpartition(".")[2] for row in functions}

    def put_view(self, name: str, query: str, *, comment: str, columns: str = "") -> None:
        """Make a view be there.

        Args:
            name: Its name.
            query: Its SELECT.
            comment: What DESCRIBE shows.
            columns: Its columns with their comments, in parentheses; else as the query names them.
        """
        digest = hashlib.sha256(f"{columns} {comment} {query}".encode()).hexdigest()
        full_name = f"{self._database}.{name}"
        properties = f"TBLPROPERTIES ('{_DIGEST}' = '{digest}')"
        if name in self._views:
            known = self._spark.sql(f"SHOW TBLPROPERTIES {full_name} ('{_DIGEST}')").first()["value"]
            if known == digest:
                return
        head = f"CREATE OR REPLACE VIEW {full_name} {columns} COMMENT {sql_literal(comment)} {properties}"
        self._put(lambda: self._spark.sql(f"{head} AS {query}"))

    def put_function(self, function: VectorFunction) -> None:
        """Make a SQL function be there."""
        full_name = f"{self._database}.{function.name}"
        if function.name in self._functions and self._described(full_name) == _description(function):
            return
        self._put(
            lambda: self._spark.sql(
                f"CREATE OR REPLACE FUNCTION {full_name}({function.parameters}) RETURNS {function.returns} "
                f"COMMENT {sql_literal(function.comment)} RETURN {function.body}"
            )
        )

    def _described(self, full_name: str) -> tuple:
        lines = (row[0] for row in self._spark.sql(f"DESCRIBE FUNCTION EXTENDED {full_name}").collect())
        usage = next(line.partition("Usage: ")[2] for line in lines if line.startswith("Usage: "))
        said = json.loads(usage)
        return tuple(said.get(f"sqlFunction.{name}") for name in ("inputParam", "returnType", "expression", "comment"))

    def _put(self, create: Callable[[], object]) -> None:
        """Create; where another session was faster, the same is there."""
        try:
            create()
        except PySparkException as error:
            if _ALREADY_THERE not in str(error):
                raise


def _description(function: VectorFunction) -> tuple:
    return function.parameters, function.returns, function.body, function.comment
