"""Nights through Airflow, each with a fault, against the same nights undisturbed.

A made-up catalog changes from day to day.  Its nights run one after the other as `make airflow` runs them, and each is
disturbed: which fault comes when, and what it hits, is drawn from a seed.  A night that fails for good is cleared, as a
person would do it.  A twin of the lake has the same nights by the jobs alone.  At the end every table of both must hold
the same; nothing that is not whole may ever have been published; and the page of each night must tell its fault.

Read-only storage needs root, which makes the lake a mount of its own.

    python -m benchmarks.disturbed_nights
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from pydantic import Field
from pydantic_settings import BaseSettings
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.airflow_client import AirflowClient
from benchmarks.beside import beside
from benchmarks.daily_market import DailyMarket
from benchmarks.faults import FAULTS, Scene, own_mount
from benchmarks.lakes import FOR_TINY_TABLES
from benchmarks.options import read_options
from benchmarks.plain_nights import learn, night_by_jobs
from benchmarks.processes import free_port, standalone_cluster, without_session_variables
from benchmarks.table import markdown_table
from benchmarks.twins import differences
from jobs.core.lake import Lake
from jobs.core.options import JobOptions
from jobs.core.session import open_session
from jobs.index.builds import INDEXES, published_build, verify_servable
from jobs.index.manifest import CURRENT_FILE, Current
from jobs.index.searcher import Searcher
from schemas import ITEM_EMBEDDINGS, ITEMS, REJECTED_ROWS
from schemas.table import Table
from scripts.airflow_server import password, running_airflow

FIRST_DAY = dt.date(2026, 3, 1)
# Days of log that the model learns from; the nights come after them.
_LEARNT_DAYS = 5
# How often a person looks after a night that has failed for good.
_LOOKS = 3
_LOOK_S = 0.2
_TOLERANCE = 1e-4
# A lost task is found out in seconds, where Airflow's own defaults take minutes.
_FOUND_OUT_SOON = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
}


class Options(BaseSettings):
    """Disturb nights, and compare what comes of them with an undisturbed twin."""

    model_config = JobOptions.model_config

    nights: int = Field(14, ge=1, description="Nights, each with one fault; every kind comes before one comes again.")
    items: int = Field(400, ge=100, description="Products on the first day.")
    epochs: int = Field(8, ge=1, description="Passes of the training, so that judged queries find something.")
    seed: int = Field(1, ge=0, description="Draws the market, the faults and what they hit.")


class Night(NamedTuple):
    """What became of a night.

    Attributes:
        hit: What the fault hit, in words; empty where it came too late.
        tries: Of its tasks, beyond the first of each.
        looks: How often a person cleared what had failed.
        told: Whether its page tells the fault.
        published: Why what is published in the morning is not whole; empty when it is.
    """

    date: dt.date
    fault: str
    hit: str
    tries: int
    looks: int
    minutes: float
    told: bool
    published: str


def drawn_faults(random: Random, names: Sequence[str]) -> Iterator[str]:
    """Faults without end: every one once in an order of its own, then all again in another order."""
    while True:
        yield from random.sample(names, len(names))


def disturbed_night(scene: Scene, fault: str) -> Night:
    """Run a night that is disturbed, until it has succeeded.

    Raises:
        RuntimeError: It failed again and again, though nothing disturbed it any more.
    """
    airflow, date = scene.airflow, scene.date
    disturbance, is_told = FAULTS[fault]
    began = time.monotonic()
    with disturbance(scene) as hits:
        run_id = airflow.trigger("catalog_nightly", f"{date}")
        run = airflow.ended_run("catalog_nightly", run_id)
    looks = 0
    while run["state"] != "success":
        if looks == _LOOKS:
            raise RuntimeError(f"{date}, {fault}: {airflow.states('catalog_nightly', run_id)}")
        looks += 1
        airflow.clear_failed("catalog_nightly", run_id)
        run = airflow.ended_run("catalog_nightly", run_id)
    folder = f"catalog_nightly.{run_id.replace(':', '').replace('+0000', 'Z')}"
    page = scene.lake.fs.cat_file(scene.lake.path("reports", folder, "index.html")).decode()
    tasks = airflow.tasks("catalog_nightly", run_id).values()
    return Night(
        date=date,
        fault=fault,
        hit=", ".join(hits),
        tries=sum(max(0, task["try_number"] - 1) for task in tasks),
        looks=looks,
        minutes=(time.monotonic() - began) / 60,
        told=is_told(page, hits),
        published=not_whole(scene.lake),
    )


def not_whole(lake: Lake) -> str:
    """Why the published build is not that of exactly the active items, by one model; empty when it is."""
    row = published_build(lake)
    if row is None:
        return "nothing is published"
    verify_servable(lake, row)
    searcher = Searcher.open(lake.uri(INDEXES, row["build_id"]))
    of_model = F.col("model_version") == row["model_version"]
    vectors = lake.read(ITEM_EMBEDDINGS).where(of_model).select("item_id", "content_hash", "embedding")
    active = lake.read(ITEMS).where("is_active").select("item_id", "content_hash")
    due = {tuple(key): vector for *key, vector in active.join(vectors, on=["item_id", "content_hash"]).collect()}
    if len(due) != active.count():
        return f"{active.count() - len(due)} active items have no vector"
    held = [tuple(item.values()) for item in searcher.items(["item_id", "content_hash"]).to_pylist()]
    if sorted(held) != sorted(due):
        return f"{len(set(held) ^ set(due))} items are in the build or active, and not both"
    apart = np.abs(searcher.vectors(np.arange(len(held))) - np.stack([due[key] for key in held])).max()
    return "" if apart < _TOLERANCE else f"a vector is {apart:.3g} away from its row"


@contextmanager
def watched_publications(lake: Lake) -> Iterator[list[str]]:
    """Every build that `indexes/CURRENT` comes to name while the block runs, each proved able to serve as it comes."""
    named: list[str] = []

    def watch(over: threading.Event) -> None:
        file = Path(lake.path(INDEXES, CURRENT_FILE))
        while not over.wait(_LOOK_S):
            if not file.exists():
                continue
            build_id = Current.model_validate_json(file.read_bytes()).build_id
            if named[-1:] != [build_id]:
                Searcher.published(lake.uri(INDEXES)).verify_pairing()
                named.append(build_id)

    with beside(watch):
        yield named


def compared(lake: Lake, twin: Lake, nights: Sequence[Night]) -> list[str]:
    """How the lakes differ, faults apart that leave rows: events that came twice, and a model that never served."""
    serving = published_build(twin)["model_version"]
    twice = [night.date for night in nights if night.fault == "log delivered twice"]

    def only(table: Table, rows: DataFrame) -> DataFrame:
        if table is REJECTED_ROWS:  # what was refused for another reason came and was refused twice, too
            came_twice = (F.col("source") == "query_log") & F.col("logical_date").isin(twice)
            once = rows.where(came_twice & (F.col("reason") != "repeated_delivery")).distinct()
            return rows.where(~came_twice).unionByName(once)
        return rows.where(F.col("model_version") == serving) if "model_version" in table.column_names else rows

    return differences(lake, twin, only=only)


def told(nights: Sequence[Night]) -> str:
    """A Markdown table of the nights."""
    rows = [["night", "fault", "hit", "tries more", "cleared", "minutes", "told by its page", "published"]]
    for night in nights:
        said = "yes" if night.told else "NO"
        facts = (f"{night.tries}", f"{night.looks}", f"{night.minutes:.1f}", said, night.published or "whole")
        rows.append([f"{night.date}", night.fault, night.hit or "came too late", *facts])
    return markdown_table(rows)


class Outcome(NamedTuple):
    """What came of all nights.

    Attributes:
        published: Every build that `indexes/CURRENT` came to name, in order.
        differing: How the lake and its twin differ; empty when they hold the same.
    """

    nights: Sequence[Night]
    published: Sequence[str]
    differing: Sequence[str]


def disturb(
    spark: SparkSession,
    folder: Path,
    market: DailyMarket,
    twin: Lake,
    faults: Sequence[str],
    *,
    random: Random,
    judged: Mapping[str, str],
) -> Outcome:
    """Run a night for each fault over a copy of a lake, and then the same nights undisturbed over the lake itself.

    Args:
        spark: This process's session.
        folder: Where the copy, Airflow and a cluster go.
        market: Whose last days the nights are for.
        twin: A lake as it is before the first night, in a folder of this machine.
        faults: Names of `FAULTS`, one a night.
        random: Draws what they hit.
        judged: Options of the jobs that measure; none where nothing is judged.
    """
    dates = market.dates[-len(faults) :]
    lake = Lake(spark, str(folder / "disturbed"))
    shutil.copytree(twin.path(""), lake.path(""))
    home, port = folder / "airflow", free_port()
    inputs = {
        **market.settings(),
        **{f"MAKE_{name.upper()}": place for name, place in judged.items()},
        "MAKE_LAKE": lake.root,
        "MAKE_RETRY_MINUTES": "0.05",
        **_FOUND_OUT_SOON,
    }
    nights = []
    with ExitStack() as stack:
        stack.enter_context(without_session_variables())
        if "storage read-only" in faults:
            stack.enter_context(own_mount(Path(lake.path(""))))
        cluster = stack.enter_context(standalone_cluster(folder / "cluster"))
        stack.enter_context(running_airflow(home, port, inputs))
        published = stack.enter_context(watched_publications(lake))
        airflow = _airflow_at_rest(port, home)
        for date, fault in zip(dates, faults, strict=True):
            scene = Scene(airflow, market, spark, lake, cluster, random, date)
            nights.append(disturbed_night(scene, fault))
            print(told(nights[-1:]).splitlines()[-1], flush=True)
    for date in dates:
        night_by_jobs(twin, market, date, judged)
    return Outcome(nights, published, compared(lake, twin, nights))


def _airflow_at_rest(port: int, home: Path) -> AirflowClient:
    airflow = AirflowClient(port, password(home))
    dags = ("catalog_nightly", "model_backfill")
    airflow.wait_for(lambda: airflow.dags().keys() >= set(dags), "the DAGs")
    for dag_id in dags:
        airflow.unpause(dag_id)
    (clocks_own,) = airflow.wait_for(lambda: airflow.runs("catalog_nightly"), "the clock's own run")
    airflow.ended_run("catalog_nightly", clocks_own["dag_run_id"])  # fails: nothing was delivered for yesterday
    return airflow


def main(arguments: list[str]) -> None:
    """Run the nights; ends with status 1 where anything was not as it must be."""
    options = read_options(Options, arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends all that was started, and the mount
    random = Random(options.seed)
    names = [name for name in FAULTS if name != "storage read-only" or os.geteuid() == 0]
    days = [FIRST_DAY + dt.timedelta(days=day) for day in range(_LEARNT_DAYS + options.nights)]
    with tempfile.TemporaryDirectory() as folder:
        spark = open_session("make benchmarks", FOR_TINY_TABLES)
        market, twin = DailyMarket(Path(folder) / "market", days, options.seed), Lake(spark, f"{folder}/twin")
        market.deliver(twin, options.items)
        learn(twin, market, days[:_LEARNT_DAYS], options.epochs)
        faults = list(islice(drawn_faults(random, names), options.nights))
        outcome = disturb(spark, Path(folder), market, twin, faults, random=random, judged=market.judged)
        spark.stop()
    print(f"\n{told(outcome.nights)}\n\n{len(outcome.published)} builds were published, each whole when it came.")
    for what in outcome.differing:
        print(f"differs from the twin: {what}")
    is_wrong = any(night.published or (night.hit and not night.told) for night in outcome.nights)
    sys.exit(1 if outcome.differing or is_wrong else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
