"""What can go wrong in a night, done for real: each fault is a context that disturbs what runs in it.

A context yields a list, to which is added what was hit, in words; it stays empty where the night ended before that.
"""

from __future__ import annotations

import datetime as dt
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

import psutil
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from benchmarks.airflow_client import AirflowClient
from benchmarks.beside import beside
from benchmarks.daily_market import DailyMarket
from benchmarks.lakes import put_candidate
from benchmarks.processes import Cluster, submitted_job
from jobs.core.lake import Lake

# Files of the night's jobs, any of which may be hit; the last two have executors compute in Python.
_JOBS = (
    "catalog/ingest.py",
    "query_log/ingest.py",
    "embedding/queries.py",
    "index/check.py",
    "index/publish.py",
    "embedding/items.py",
    "index/build.py",
)
_WITH_PYTHON = _JOBS[-2:]
# Seconds of a job after which it is hit: what it does before is Spark's start.
_EARLIEST, _LATEST = 1.0, 10.0
_LOOK_S = 0.1
_REMOUNT = ["mount", "--options", "remount,bind", "--options"]
# Longest that a store stays read-only.
_READ_ONLY_S = 120.0


class Scene(NamedTuple):
    """What a fault may lay hands on.

    Args:
        airflow: Where the night runs.
        market: Where its deliveries come from.
        spark: This process's session.
        lake: Where the night's tables are, in a folder of this machine.
        cluster: Where its jobs run when they do not run in their own process.
        random: Draws what is hit, and when.
        date: The night.
    """

    airflow: AirflowClient
    market: DailyMarket
    spark: SparkSession
    lake: Lake
    cluster: Cluster
    random: Random
    date: dt.date


Disturbance = Callable[[Scene], AbstractContextManager[list[str]]]


@contextmanager
def _hitting(hit: Callable[[threading.Event], str | None]) -> Iterator[list[str]]:
    """Call `hit` beside the block, again and again until it has hit something or the block ends."""
    hits: list[str] = []

    def lurk(over: threading.Event) -> None:
        while not hits and not over.wait(_LOOK_S):
            with suppress(psutil.NoSuchProcess):  # it may have ended by itself
                hits.extend(filter(None, [hit(over)]))

    with beside(lurk):
        yield hits


def _hitting_a_job(scene: Scene, strike: Callable[[psutil.Process], str | None]) -> AbstractContextManager[list[str]]:
    """Call `strike` with the JVM of a drawn job at a drawn moment; with that of any later job if that one had ended."""
    wanted, moment = scene.random.choice(_JOBS), scene.random.uniform(_EARLIEST, _LATEST)
    missed = False

    def hit(over: threading.Event) -> str | None:
        nonlocal missed
        process = submitted_job(".py" if missed else wanted)
        if process is None:
            return None
        missed, name = True, _name_of(process)
        over.wait(moment)
        what = strike(process)
        return what and f"{name}, {what}"

    return _hitting(hit)


def _name_of(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        file = next(Path(word) for word in process.cmdline() if word.endswith(".py"))
        return f"{file.parent.name} {file.stem}".replace("_", "-")
    return "a job"


def driver_killed(scene: Scene) -> AbstractContextManager[list[str]]:
    """`kill -9` of a job's driver: of its JVM, or of its Python."""
    is_python = scene.random.random() < 0.5

    def strike(jvm: psutil.Process) -> str | None:
        python = min(jvm.children(), key=psutil.Process.create_time, default=jvm)
        (python if is_python else jvm).kill()
        return f"the driver's {'Python' if is_python else 'JVM'}, kill -9"

    return _hitting_a_job(scene, strike)


def airflow_worker_killed(scene: Scene) -> AbstractContextManager[list[str]]:
    """`kill -9` of the Airflow processes above a job, which goes on as an orphan."""

    def strike(jvm: psutil.Process) -> str:
        task = jvm.parent()
        for process in (task.parent(), task):
            process.kill()
        return "Airflow's processes above it, kill -9"

    return _hitting_a_job(scene, strike)


@contextmanager
def executor_killed(scene: Scene) -> Iterator[list[str]]:
    """`kill -9` of an executor at work, on a standalone cluster that the night's jobs are submitted to."""
    wanted = scene.random.choice(_WITH_PYTHON)

    def hit(over: threading.Event) -> str | None:
        process = submitted_job(wanted)
        workers = scene.cluster.python_workers() if process else []
        if not workers or over.is_set():
            return None
        above = {parent.pid for worker in workers for parent in worker.parents()}
        executor = next((executor for executor in scene.cluster.executors() if executor.pid in above), None)
        if executor is None:
            return None
        executor.kill()
        return f"{_name_of(process)}, an executor, kill -9"

    scene.airflow.set_master(scene.cluster.master)
    try:
        with _hitting(hit) as hits:
            yield hits
    finally:
        scene.airflow.set_master("local[*]")


def storage_made_read_only(scene: Scene) -> AbstractContextManager[list[str]]:
    """The lake, a mount of its own, is mounted read-only from a moment of a job until that job has ended."""

    def strike(jvm: psutil.Process) -> str | None:
        while subprocess.run([*_REMOUNT, "ro", _folder_of(scene.lake)], capture_output=True, check=False).returncode:
            if not jvm.is_running():  # while a file is being written, the kernel refuses
                return None
            time.sleep(_LOOK_S)
        began = time.monotonic()
        try:
            psutil.wait_procs([jvm], timeout=_READ_ONLY_S)
        finally:
            subprocess.run([*_REMOUNT, "rw", _folder_of(scene.lake)], check=True)
        return f"the lake read-only for {time.monotonic() - began:.0f} s"

    return _hitting_a_job(scene, strike)


def _folder_of(lake: Lake) -> str:
    return lake.path("").rstrip("/")


@contextmanager
def own_mount(folder: Path) -> Iterator[None]:
    """The folder is a mount of its own while the block runs; only root may do that."""
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def snapshot_cut_off(scene: Scene) -> Iterator[list[str]]:
    """The catalog's snapshot holds its first half alone; the whole one comes once the ingest has refused it."""
    file = scene.market.delivery(scene.date, "catalog")
    whole = pq.read_table(file)
    pq.write_table(whole.slice(0, whole.num_rows // 2), file)

    def hit(over: threading.Event) -> str | None:
        process = submitted_job("catalog/ingest.py")
        if process is None:
            return None
        while process.is_running() and not over.wait(_LOOK_S):
            pass
        pq.write_table(whole, file)
        return f"{whole.num_rows // 2:,} of {whole.num_rows:,} rows came first"

    try:
        with _hitting(hit) as hits:
            yield hits
    finally:
        pq.write_table(whole, file)


@contextmanager
def log_delivered_twice(scene: Scene) -> Iterator[list[str]]:
    """The query log of the night lies there twice."""
    file = scene.market.delivery(scene.date, "query_log")
    again = file.with_name("part-1.parquet")
    shutil.copyfile(file, again)
    try:
        yield [f"{pq.read_metadata(file).num_rows:,} events came twice"]
    finally:
        again.unlink()


@contextmanager
def bad_model_promoted(scene: Scene) -> Iterator[list[str]]:
    """Somebody has promoted a model that finds what is least like a query; its backfill comes before the night."""
    with tempfile.TemporaryDirectory() as folder:
        version = put_candidate(scene.lake, scene.spark, Path(folder))
    run_id = scene.airflow.trigger("model_backfill", f"{scene.date}")
    ended = scene.airflow.ended_run("model_backfill", run_id)
    yield [f"{version}, its backfill: {ended['state']}"]


def _says(pattern: str) -> Callable[[str, list[str]], bool]:
    return lambda page, _hits: bool(re.search(pattern, page))


def _counts_twice(page: str, hits: list[str]) -> bool:
    """A few deliveries are repeated in every night; now most of its events are."""
    found = re.search(r'repeated_delivery</td><td>rejected</td><td class="number">([\d,]+)', page)
    repeated, came = (int(number.replace(",", "")) for number in (found[1] if found else "0", hits[0].split()[0]))
    return repeated > came / 2


# Name -> the fault, and whether the night's page tells it, given what was hit.
FAULTS: Mapping[str, tuple[Disturbance, Callable[[str, list[str]], bool]]] = {
    "executor killed": (executor_killed, _says(r"tasks that failed, alone or with their executor")),
    "driver killed": (driver_killed, _says(r"was try \d+ of its task")),
    "Airflow worker killed": (airflow_worker_killed, _says(r"was try \d+ of its task")),
    "storage read-only": (storage_made_read_only, _says(r"was try \d+ of its task")),
    "snapshot cut off": (snapshot_cut_off, _says(r"failed: .*lacks [\d,]+ of the [\d,]+ active items")),
    "log delivered twice": (log_delivered_twice, _counts_twice),
    "bad model promoted": (bad_model_promoted, _says(r"failed: .*judged_floor")),
}
