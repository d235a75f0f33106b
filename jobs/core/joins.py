"""How frames meet without more being shuffled than has to be."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

# So many rows of a few short columns reach every task at once; more than that, and Spark joins in its own way.
_BROADCAST_ROWS = 1_000_000


def small(rows: DataFrame, count: int) -> DataFrame:
    """`rows` marked to be sent to every task, unless `count` of them are too many for that."""
    return F.broadcast(rows) if count <= _BROADCAST_ROWS else rows
