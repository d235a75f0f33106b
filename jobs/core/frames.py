"""Frames that are read more than once, or meet larger ones, or are asked side by side."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from pyspark import inheritable_thread_target
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

# So many rows of a few short columns reach every task at once; more than that, and Spark joins in its own way.
_BROADCAST_ROWS = 1_000_000
# With a few rows it takes longer to compile code for a plan, or to plan it anew halfway, than to run it as it is, and
# longer to mark rows of a file as deleted than to write it anew.
_FOR_FEW_ROWS = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.databricks.delta.update.deletionVectors.persistent": "false",
}


def small(rows: DataFrame, count: int) -> DataFrame:
    """`rows` marked to be sent to every task, unless `count` of them are too many for that."""
    return F.broadcast(rows) if count <= _BROADCAST_ROWS else rows


@contextmanager
def persisted(rows: DataFrame) -> Iterator[DataFrame]:
    """`rows`, computed once and kept on the workers' disks while the block runs.

    What a lost worker held is computed again, so read tables that are written meanwhile at a version.
    """
    rows = rows.persist(StorageLevel.DISK_ONLY)
    try:
        yield rows
    finally:
        rows.unpersist()


def few_rows(spark: SparkSession) -> AbstractContextManager[None]:
    """Have Spark start at once on what it is asked in the block, where all frames are of few rows."""
    return settings(spark, _FOR_FEW_ROWS)


@contextmanager
def settings(spark: SparkSession, values: Mapping[str, str]) -> Iterator[None]:
    """The session has these settings while the block runs."""
    before = {name: spark.conf.get(name, None) for name in values}
    try:
        for name, value in values.items():
            spark.conf.set(name, value)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, value)


def at_once(*questions: Callable[[], Any]) -> list[Any]:
    """Answers of independent questions to Spark, asked side by side: of small ones, planning is most of the time."""
    inheriting = inheritable_thread_target(SparkSession.active())  # what the session's tasks are marked with
    with ThreadPoolExecutor(max_workers=len(questions), thread_name_prefix="question") as pool:
        return [answer.result() for answer in [pool.submit(inheriting(question)) for question in questions]]
