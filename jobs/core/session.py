"""The Spark session of a job: Delta, UTC, and sizes that fit one machine unless settings say more."""

import os
import shlex
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import pyspark
from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

# What correctness rests on; a cluster's own settings do not override these.
_FIXED = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    # Parquet written by pandas often holds nanosecond timestamps, which Spark refuses to read by default.
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    # Photos: one Arrow batch can hold 2 GiB, and a worker several of its batches; rows are limited job by job.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(64 * 2**20),
}

# Where `jobs` is imported from: a checkout, or an environment that has the wheel.
_CODE = Path(__file__).resolve().parents[2]

# In a checkout: the JVM's own settings (memory, flags, log file) for one machine.
_CHECKOUT_PROPERTIES = _CODE / "conf"

# Sizes for the embedded default; spark-submit and spark-defaults.conf win.
_EMBEDDED = {
    "spark.sql.shuffle.partitions": "4",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "4",
    "spark.databricks.delta.snapshotPartitions": "2",
    # What a task writes of a merge: with Delta's 512 MB a million vectors would be one core's work.
    "spark.databricks.delta.optimizeWrite.binSize": "16m",
    # What a task allocates, and clears, for the first row that it sorts or aggregates: with 4 GB Spark takes 64 MB.
    "spark.buffer.pageSize": "4m",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.python.daemon.module": "jobs.core.python_daemon",
    "spark.ui.showConsoleProgress": "false",
    # Photos: thousands of rows a batch would pass Arrow's 2 GiB.
    "spark.sql.parquet.columnarReaderBatchSize": "256",
}


def open_session(
    name: str,
    settings: Mapping[str, str] | None = None,
    *,
    properties: str = "spark-defaults.conf",
    marks: Mapping[str, str] | None = None,
) -> SparkSession:
    """Open the session, or take the one that this process already has.

    Args:
        name: Application name, as the cluster's pages show it.
        settings: What this process needs beside what every job does; a cluster's own settings do not override these.
        properties: File in a checkout's `conf/` with the JVM's own settings for one machine.
        marks: What every line of Spark's log is to carry: run_id, job.
    """
    running = SparkSession.getActiveSession()
    if running is not None:
        return _marked(running, marks or {})
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # not started by spark-submit
        os.environ.setdefault("PYSPARK_SUBMIT_ARGS", _submit_arguments(properties))
        # What Spark Connect runs functions with where nothing else is named.
        os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
        # Python processes below the JVM, training's among them, start in folders of their own.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_CODE), os.environ.get("PYTHONPATH"))))
    SparkContext._ensure_initialized()  # starts the JVM, and with it whatever spark-submit or the properties file set
    for mark, value in (marks or {}).items():
        SparkContext._jvm.System.setProperty(f"make.{mark}", value)
    given = SparkConf()
    master = given.get("spark.master", "local[*]")
    configured = {"spark.master": master}
    if master.startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        configured |= {key: value for key, value in _EMBEDDED.items() if not given.contains(key)}
    if "AWS_ENDPOINT_URL" in os.environ:  # Spark takes it; a store that is not Amazon's has no host name a bucket
        configured["spark.hadoop.fs.s3a.path.style.access"] = given.get("spark.hadoop.fs.s3a.path.style.access", "true")
    configured |= {**_FIXED, **(settings or {})}
    session = SparkSession.builder.appName(name).config(map=configured).getOrCreate()
    session.sparkContext.setLogLevel("WARN")
    return _marked(session, marks or {})


def _marked(session: SparkSession, marks: Mapping[str, str]) -> SparkSession:
    """The session, whose tasks write these marks on the lines of executors' logs."""
    for mark, value in marks.items():
        session.sparkContext.setLocalProperty(f"mdc.{mark}", value)
    return session


def _submit_arguments(properties: str) -> str:
    """What spark-submit would be told, for a process that was started as plain Python."""
    arguments = []
    file = _CHECKOUT_PROPERTIES / properties
    if file.is_file() and "SPARK_CONF_DIR" not in os.environ:
        arguments += ["--properties-file", str(file)]
    if not any((Path(pyspark.__file__).parent / "jars").glob("*delta-spark_*.jar")):
        arguments += ["--packages", f"io.delta:delta-spark_2.13:{metadata.version('delta-spark')}"]
    return shlex.join([*arguments, "pyspark-shell"])
