"""Serve the lake over SQL to any JDBC or ODBC tool, and to notebooks over Spark Connect, until it is stopped.

Reads: what the statements name
"""

from __future__ import annotations

import ipaddress
import signal
import sys
import threading
from pathlib import Path

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from pydantic import Field
from pyspark.sql import SparkSession
from rich.console import Console

from jobs.core.console import open_console, quieten_process
from jobs.core.lake import Lake, root_uri
from jobs.core.session import open_session
from jobs.sql.door import DoorOptions, enter
from jobs.sql.read_only import ReadOnlyError, is_read_only, start_read_only
from jobs.sql.register import register, register_again
from schemas import ALL_TABLES

# Settings of a session that tell clients of Spark Connect what they open.
LAKE_SETTING, DATABASE_SETTING = "spark.make.lake", "spark.make.database"
_AUTHENTICATION = "spark.hadoop.hive.server2.authentication"
# How often the server looks for tables that the lake did not have before.
_SECONDS_BETWEEN_LOOKS = 60


class Options(DoorOptions):
    """Serve the lake over SQL: JDBC and ODBC by the Thrift protocol, notebooks by Spark Connect."""

    host: str = Field("127.0.0.1", description="Address for JDBC clients; beyond loopback, see docs/sql.md.")
    port: int = Field(10_000, ge=1, le=65_535, description="Port that JDBC clients connect to.")
    connect_port: int = Field(15_002, ge=1, le=65_535, description="Port of Spark Connect, always on loopback.")
    query_timeout_s: int = Field(600, ge=1, description="Seconds after which a JDBC client's statement is cancelled.")
    max_result_mib: int = Field(1_024, ge=1, description="What the result of one statement may take, in MiB.")
    allow_writes: bool = Field(False, description="Start even though statements could write the lake.")


def settings_of(options: Options) -> dict[str, str]:
    """What Spark is told beside conf/sql-server.conf."""
    return {
        LAKE_SETTING: root_uri(options.lake),
        DATABASE_SETTING: options.database,
        # Functions in Python belong to a session, so clients share one: see docs/sql.md for what that means.
        "spark.sql.hive.thriftServer.singleSession": "true",
        "spark.sql.thriftServer.queryTimeout": str(options.query_timeout_s),
        "spark.driver.maxResultSize": f"{options.max_result_mib}m",
        "spark.hadoop.hive.server2.thrift.bind.host": options.host,
        "spark.hadoop.hive.server2.thrift.port": str(options.port),
        "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(options.connect_port),
        "spark.python.daemon.module": "jobs.sql.python_daemon",
    }


def run(options: Options) -> int:
    """Serve until a signal comes; returns the process's exit status."""
    problem = _protect_lake(options)
    if problem:
        print(problem, file=sys.stderr)
        return 1
    console = open_console()
    quieten_process(options.log_dir / "sql-server.log")
    spark = open_session("make sql-server", settings_of(options), properties="sql-server.conf")
    if not _is_loopback(options.host) and spark.conf.get(_AUTHENTICATION, "NONE").upper() in ("NONE", "NOSASL"):
        console.print(
            f"--host {options.host} is open to other machines, and nobody would have to say who they are: "
            f"set {_AUTHENTICATION} (LDAP, KERBEROS, CUSTOM; see docs/sql.md), or keep to 127.0.0.1",
            style="red",
        )
        return 1
    serve(spark, Lake(spark, options.lake), options, console)
    return 0


def serve(spark: SparkSession, lake: Lake, options: Options, console: Console) -> None:
    """Register the lake, open the ports, and wait for a signal."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    known = register(spark, lake, database=options.database)
    thrift = spark._jvm.org.apache.spark.sql.hive.thriftserver.HiveThriftServer2
    server = thrift.startWithSparkSession(spark._jsparkSession, False)
    console.print(f"JDBC and ODBC   jdbc:hive2://{options.host}:{options.port}/{options.database}")
    console.print(f"Spark Connect   sc://127.0.0.1:{options.connect_port}")
    if known.absent:
        console.print(f"Not made by any job yet: {', '.join(known.absent)}", style="dim")
    console.print("Ready; Ctrl-C stops it.")
    while not stopped.wait(_SECONDS_BETWEEN_LOOKS):
        if any(lake.exists(table) for table in ALL_TABLES if table.name in known.absent):
            known = register_again(spark, lake, database=options.database)
    server.stop()
    spark.stop()


def _protect_lake(options: Options) -> str | None:
    """See to it that statements cannot write the lake; returns why the server must not start, if so."""
    if options.allow_writes:
        return None
    fs, path = url_to_fs(options.lake)
    if not isinstance(fs, LocalFileSystem):
        return None  # what its credentials allow: docs/sql.md
    folder = Path(path)
    if not folder.is_dir():
        return f"--lake (or MAKE_LAKE): there is no folder {folder}; run a night first, or name another lake"
    if is_read_only(folder):
        return None
    try:
        start_read_only(folder, [sys.executable, "-m", "jobs", "sql", "server", *sys.argv[1:]])
    except ReadOnlyError as error:
        return (
            f"statements could write {folder}, and this machine allows no mount that prevents it: {error}. Start the "
            "server where the lake is mounted read-only; if whoever connects may write it, start it with --allow-writes"
        )
    return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    enter(Options, run)
