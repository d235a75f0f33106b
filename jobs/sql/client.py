"""The lake for Python and notebooks, through a running `make sql-server`: one function opens and registers."""

from pyspark.sql import SparkSession

from jobs.index.builds import INDEXES
from jobs.sql.register import register_session
from jobs.sql.server import DATABASE_SETTING, LAKE_SETTING


def open_lake(url: str = "sc://127.0.0.1:15002") -> SparkSession:
    """A session of one's own at the server, over Spark Connect, with the lake's tables and functions in place.

    Args:
        url: Where the server's Spark Connect listens.

    Example:
        spark = open_lake()
        spark.sql("SELECT title, score FROM search('red dress', 10)").toPandas()
    """
    spark = SparkSession.builder.remote(url).getOrCreate()
    lake, database = (spark.conf.get(name) for name in (LAKE_SETTING, DATABASE_SETTING))
    spark.sql(f"USE {database}")
    register_session(spark, indexes=f"{lake}/{INDEXES}", models=f"{lake}/models", database=database)
    return spark
