"""Frames that are read more than once, or meet larger ones."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

# So many rows of a few short columns reach every task at once; more than that, and Spark joins in its own way.
_BROADCAST_ROWS = 1_000_000


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
