"""Nights in which nothing changes, one after the other in one process: what grows all the same?

Every night brings the same snapshot and a log in which the same shoppers ask the same again.  Once a week tables are
maintained, and files of old versions removed as if their time had come.  Then what the lake holds, and what the
processes take, must stay as it was; the record of runs alone grows, by a row a job.

    python -m benchmarks.unchanged_nights
"""

from __future__ import annotations

import datetime as dt
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
from pydantic import Field
from pydantic_settings import BaseSettings
from pyspark.sql import SparkSession

from benchmarks.daily_market import DailyMarket
from benchmarks.lakes import FOR_TINY_TABLES
from benchmarks.options import read_options
from benchmarks.plain_nights import learn, night_by_jobs, succeed
from benchmarks.table import markdown_table
from jobs.core.frames import settings
from jobs.core.lake import Lake
from jobs.core.options import JobOptions
from jobs.core.session import open_session
from jobs.operations import maintain, optimize, report
from schemas import ALL_TABLES, JOB_RUNS
from schemas.table import sql_path

FIRST_DAY = dt.date(2026, 1, 1)
_WEEK = 7
# The least that may be kept of the log, in days; pages stay no longer.
_KEPT_DAYS = 31
# From which night on nothing may grow, as a share of the nights: the log is full by then, and the JVM warm.
_SETTLED = 0.5
# Growth that counts as none.
_ALLOWED = 0.05


class Options(BaseSettings):
    """Run nights in which nothing changes, and watch what grows."""

    model_config = JobOptions.model_config

    nights: int = Field(100, ge=2 * _WEEK, description="Nights.")
    items: int = Field(100, ge=100, description="Products.")
    seed: int = Field(1, ge=0, description="Draws the market.")


class Holdings(NamedTuple):
    """What there is after a week's maintenance.

    Attributes:
        files, bytes_: Below tables/, without those of `job_runs`.
        log_files: Of the tables' logs, which Delta keeps for 30 days by the clock.
        other_files: Of the lake, outside tables/.
        runs_bytes: Of `job_runs`.
        heap_mib: Of the driver's JVM, after a collection.
        python_mib: Resident, of this process.
        classes, threads: Of the JVM.
        descriptors: Open files of the JVM.
    """

    night: int
    files: int
    bytes_: int
    log_files: int
    other_files: int
    runs_bytes: int
    heap_mib: float
    python_mib: float
    classes: int
    threads: int
    descriptors: int
    seconds_a_night: float


class UnchangedNights:
    """A lake in a folder, and the nights over it.

    Args:
        spark: This process's session.
        folder: Where everything goes.
        options: The benchmark's.
    """

    def __init__(self, spark: SparkSession, folder: Path, options: Options) -> None:
        self._spark = spark
        self._market = DailyMarket(folder / "market", [FIRST_DAY], options.seed)
        self.lake = Lake(spark, str(folder / "lake"))
        self._market.deliver(self.lake, options.items)
        learn(self.lake, self._market, [FIRST_DAY], epochs=1)
        self._log = pd.read_parquet(self._market.delivery(FIRST_DAY, "query_log"))

    def run(self, number: int) -> float:
        """One night, its page included; returns its seconds."""
        date = FIRST_DAY + dt.timedelta(days=number)
        began = dt.datetime.now(dt.UTC)
        self._deliver(number, date)
        night_by_jobs(self.lake, self._market, date, judged={})
        succeed(self.lake, report, date=date, run_id=f"{date}")
        page = self.lake.path("reports", f"{date}", "index.html")
        os.utime(page, (dt.datetime.combine(date, dt.time(3), dt.UTC).timestamp(),) * 2)
        return (dt.datetime.now(dt.UTC) - began).total_seconds()

    def _deliver(self, number: int, date: dt.date) -> None:
        log = self._log.assign(
            event_id=self._log["event_id"].astype(str) + f"-{number}",
            session_id=self._log["session_id"].astype(str) + f"-{number}",
            event_ts=self._log["event_ts"] + pd.Timedelta(days=number),
        )
        for what, rows in (
            ("query_log", log),
            ("catalog", pd.read_parquet(self._market.delivery(FIRST_DAY, "catalog"))),
        ):
            file = self._market.delivery(date, what)
            file.parent.mkdir(parents=True)
            rows.to_parquet(file, index=False, coerce_timestamps="us")

    def maintain(self, number: int) -> None:
        """A week's maintenance, and the end of all old versions."""
        date = FIRST_DAY + dt.timedelta(days=number)
        succeed(self.lake, maintain, date=date, query_event_days=_KEPT_DAYS, report_days=_KEPT_DAYS)
        succeed(self.lake, optimize, date=date)
        with settings(self._spark, {"spark.databricks.delta.retentionDurationCheck.enabled": "false"}):
            for table in ALL_TABLES:
                if self.lake.exists(table):
                    self._spark.sql(f"VACUUM {sql_path(self.lake.table_uri(table))} RETAIN 0 HOURS")

    def holdings(self, number: int, seconds_a_night: float) -> Holdings:
        """What there is now."""
        root = Path(self.lake.path(""))
        tables = [file for file in (root / "tables").rglob("*") if file.is_file()]
        of_logs = [file for file in tables if "_delta_log" in file.parts]
        of_runs = [file for file in tables if JOB_RUNS.name in file.parts and file not in of_logs]
        data = [file for file in tables if file not in of_logs and file not in of_runs]
        jvm = self._spark._jvm.java.lang
        jvm.System.gc()
        runtime, factory = jvm.Runtime.getRuntime(), jvm.management.ManagementFactory
        process = psutil.Process(int(factory.getRuntimeMXBean().getName().partition("@")[0]))
        return Holdings(
            night=number,
            files=len(data),
            bytes_=sum(file.stat().st_size for file in data),
            log_files=len(of_logs),
            other_files=sum(file.is_file() for file in root.rglob("*")) - len(tables),
            runs_bytes=sum(file.stat().st_size for file in of_runs),
            heap_mib=(runtime.totalMemory() - runtime.freeMemory()) / 2**20,
            python_mib=psutil.Process().memory_info().rss / 2**20,
            classes=factory.getClassLoadingMXBean().getLoadedClassCount(),
            threads=process.num_threads(),
            descriptors=process.num_fds(),
            seconds_a_night=seconds_a_night,
        )


def grown(weeks: Sequence[Holdings], nights: int) -> list[str]:
    """What the last weeks have more of than the weeks after things had settled, by more than is allowed."""
    settled = [week for week in weeks if week.night >= _SETTLED * nights]
    half = len(settled) // 2
    found = []
    for name in ("files", "bytes_", "other_files", "heap_mib", "python_mib", "threads", "descriptors"):
        before, after = (max(getattr(week, name) for week in part) for part in (settled[:half], settled[half:]))
        if after > (1 + _ALLOWED) * before:
            found.append(f"{name}: {before:,.0f} before, {after:,.0f} after")
    return found


def told(weeks: Sequence[Holdings]) -> str:
    """A Markdown table of the weeks."""
    rows = [
        [
            "night",
            "files",
            "MB",
            "files of logs",
            "other files",
            "runs, kB",
            "heap, MiB",
            "Python, MiB",
            "classes",
            "threads",
            "descriptors",
            "s a night",
        ]
    ]
    for week in weeks:
        rows.append(
            [
                f"{week.night}",
                f"{week.files:,}",
                f"{week.bytes_ / 1e6:.2f}",
                f"{week.log_files:,}",
                f"{week.other_files:,}",
                f"{week.runs_bytes / 1e3:.0f}",
                f"{week.heap_mib:.0f}",
                f"{week.python_mib:.0f}",
                f"{week.classes:,}",
                f"{week.threads}",
                f"{week.descriptors}",
                f"{week.seconds_a_night:.1f}",
            ]
        )
    return markdown_table(rows)


def main(arguments: list[str]) -> None:
    """Run the nights, and print the weeks; ends with status 1 where something has grown."""
    options = read_options(Options, arguments)
    with tempfile.TemporaryDirectory() as folder:
        spark = open_session("make benchmarks", FOR_TINY_TABLES)
        nights = UnchangedNights(spark, Path(folder), options)
        weeks: list[Holdings] = []
        seconds: list[float] = []
        for number in range(1, options.nights + 1):
            seconds.append(nights.run(number))
            if number % _WEEK == 0:
                nights.maintain(number)
                weeks.append(nights.holdings(number, sum(seconds[-_WEEK:]) / _WEEK))
                print(told(weeks).splitlines()[-1], flush=True)
        spark.stop()
    print(f"\n{told(weeks)}")
    growing = grown(weeks, options.nights)
    for what in growing:
        print(f"has grown: {what}")
    sys.exit(1 if growing else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
