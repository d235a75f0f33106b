"""Whatever disturbs a run, the table ends as if nothing had been.

`kill -9` of driver, Python workers and executors, each at three points of a run, and another run of the same table.
"""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import functions as F

from benchmarks.lakes import put_candidate
from benchmarks.processes import JobProcess, standalone_cluster
from jobs.core.lake import Lake
from jobs.embedding.staging import staged_rows, staging_parts
from schemas import EMBEDDING_FAILURES, ITEM_EMBEDDINGS, JOB_RUNS
from tests.embedding.products import DAY, put_items
from tests.lakes import put_promoted_model
from tests.photos import jpeg, truncated_jpeg

# Enough for two tasks.
ITEMS_IN_ALL = 1_200
COMMAND = ["embedding", "items", f"--date={DAY}", "--batch-size=8", "--chunk-size=32"]
FLOATS = ("title_weight", "image_weight", "photo_effect")

pytestmark = pytest.mark.slow


class LakeOfTest(Lake):
    """A lake whose folder is watched from outside while jobs write to it."""

    def __init__(self, spark, folder: Path, model_version: str) -> None:
        super().__init__(spark, str(folder))
        self.folder, self.model_version = folder, model_version

    def command(self) -> list[str]:
        return [*COMMAND, f"--lake={self.folder}"]

    def staged(self) -> int:
        return staged_rows(self, self.model_version)

    def has_staging(self) -> bool:
        return self.fs.isdir(self.path(*staging_parts(self.model_version)))

    def data_files(self) -> list[Path]:
        return list((self.folder / "tables" / ITEM_EMBEDDINGS.name).glob("model_version=*/*.parquet"))

    def vectors(self) -> dict[str, dict]:
        rows = self.read(ITEM_EMBEDDINGS).where(F.col("model_version") == self.model_version)
        return {row["item_id"]: row.asDict() for row in rows.drop("run_id").collect()}


@pytest.fixture(scope="module")
def template(spark, model_folder, tmp_path_factory) -> LakeOfTest:
    """Items of a few hundred photos, some of them broken or missing, and a promoted model; nothing is embedded."""
    folder = tmp_path_factory.mktemp("template") / "lake"
    lake = LakeOfTest(spark, folder, put_promoted_model(Lake(spark, str(folder)), spark, model_folder))
    colours = ["red", "green", "blue", "navy", "white", "black", "yellow"]
    photos = [*(jpeg(colour, (40 + n, 60)) for colour in colours for n in range(12)), truncated_jpeg("red"), None]
    words = ["red dress", "blue shirt", "straw hat", "shoe", "bag of leather"]
    put_items(
        lake,
        spark,
        *((f"item {n:04}", f"{words[n % 5]} {n}", photos[n % len(photos)]) for n in range(ITEMS_IN_ALL)),
    )
    for table in (ITEM_EMBEDDINGS, EMBEDDING_FAILURES, JOB_RUNS):
        lake.delta(table)
    return lake


@pytest.fixture
def fresh_lake(template, spark, tmp_path) -> LakeOfTest:
    """A lake of its own for each test."""
    shutil.copytree(template.folder, tmp_path / "lake")
    return LakeOfTest(spark, tmp_path / "lake", template.model_version)


@pytest.fixture(scope="module")
def undisturbed(template, spark, tmp_path_factory) -> dict[str, dict]:
    """What a run leaves that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(template.folder, folder / "lake")
    lake = LakeOfTest(spark, folder / "lake", template.model_version)
    run = JobProcess(lake.command(), folder / "run")
    assert run.end() == 0, run.told
    assert len(lake.vectors()) == ITEMS_IN_ALL
    return lake.vectors()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with standalone_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def assert_same(lake: LakeOfTest, expected: dict[str, dict], tolerance: float = 1e-5) -> None:
    """Row for row; numbers of a vector within `tolerance`, for sums of a batch depend on who else is in it."""
    came = lake.vectors()
    assert came.keys() == expected.keys()
    for item, row in expected.items():
        np.testing.assert_allclose(came[item]["embedding"], row["embedding"], atol=tolerance, err_msg=item)
        assert [came[item][name] for name in FLOATS] == pytest.approx([row[name] for name in FLOATS], abs=tolerance)
        same = row.keys() - {"embedding", *FLOATS}
        assert {name: came[item][name] for name in same} == {name: row[name] for name in same}
    assert lake.read(EMBEDDING_FAILURES).count() == 0
    assert not lake.has_staging()


def before_the_stage_write(lake: LakeOfTest, workers) -> bool:
    return bool(workers()) and lake.staged() == 0


def between_stage_and_merge(lake: LakeOfTest, _workers) -> bool:
    return lake.staged() == ITEMS_IN_ALL


def in_the_merge(lake: LakeOfTest, _workers) -> bool:
    return bool(lake.data_files())


POINTS = pytest.mark.parametrize("point", [before_the_stage_write, between_stage_and_merge, in_the_merge])


@POINTS
def test_a_driver_is_killed_and_the_next_run_goes_on(fresh_lake, undisturbed, tmp_path, point):
    run = JobProcess(fresh_lake.command(), tmp_path / "killed")
    run.wait_until(lambda: point(fresh_lake, run.python_workers))
    run.kill()
    assert fresh_lake.has_staging() == (point is not before_the_stage_write)
    again = JobProcess(fresh_lake.command(), tmp_path / "again")
    assert again.end() == 0, again.told
    if point is not before_the_stage_write:
        assert f"{ITEMS_IN_ALL:,} of {ITEMS_IN_ALL:,} vectors were found staged by an earlier run" in again.told
    assert_same(fresh_lake, undisturbed)


@POINTS
def test_python_workers_are_killed_and_the_next_run_goes_on(fresh_lake, undisturbed, tmp_path, point):
    run = JobProcess(fresh_lake.command(), tmp_path / "killed")
    run.wait_until(lambda: point(fresh_lake, run.python_workers))
    killed = run.python_workers()
    for worker in killed:
        worker.kill()
    assert killed
    if point is before_the_stage_write:  # on one machine Spark tries a task once
        assert run.end() == 1
        run = JobProcess(fresh_lake.command(), tmp_path / "again")
    assert run.end() == 0, run.told
    assert_same(fresh_lake, undisturbed)


@POINTS
def test_an_executor_is_killed_and_the_run_goes_on_without_it(fresh_lake, undisturbed, cluster, tmp_path, point):
    run = JobProcess(fresh_lake.command(), tmp_path / "run", cluster.conf_dir)
    run.wait_until(lambda: point(fresh_lake, cluster.python_workers))
    at_work = {worker.parent().ppid() for worker in cluster.python_workers()}
    next(executor for executor in cluster.executors() if executor.pid in at_work).kill()
    assert run.end() == 0, run.told
    assert_same(fresh_lake, undisturbed, tolerance=1e-4)
    (record,) = fresh_lake.read(JOB_RUNS).where("job = 'embedding items'").collect()
    assert record["figures"]["failed_tasks"] > 0


def test_a_cluster_gives_the_vectors_of_one_machine(fresh_lake, undisturbed, cluster, tmp_path):
    run = JobProcess(fresh_lake.command(), tmp_path / "run", cluster.conf_dir)
    assert run.end() == 0, run.told
    assert len(cluster.executors()) <= 2
    assert_same(fresh_lake, undisturbed, tolerance=1e-4)


def test_of_two_runs_at_once_one_wins_and_the_other_stops_and_says_who_is_at_work(fresh_lake, undisturbed, tmp_path):
    runs = [JobProcess([*fresh_lake.command(), f"--run-id=run-{name}"], tmp_path / name) for name in "ab"]
    status = {run: run.end() for run in runs}
    assert sorted(status.values()) == [0, 1], [run.told for run in runs]
    winner, loser = sorted(runs, key=status.get)
    assert f"run run-{'ab'[runs.index(winner)]} (embedding items, process {winner.pid} on" in loser.told
    assert "Wait until it has ended, or end it; this run has changed nothing." in loser.told
    assert_same(fresh_lake, undisturbed)
    recorded = {row["run_id"]: row["verdict"] for row in fresh_lake.read(JOB_RUNS).collect()}
    assert recorded == {f"run-{'ab'[n]}": "succeeded" if run is winner else "failed" for n, run in enumerate(runs)}


@POINTS
def test_a_try_that_airflow_lost_is_ended_by_the_next_one(fresh_lake, undisturbed, tmp_path, point):
    command = [*fresh_lake.command(), "--run-id=night"]
    lost = JobProcess(command, tmp_path / "lost")
    lost.wait_until(lambda: point(fresh_lake, lost.python_workers))
    lost.suspend()  # else it might come to its end before the next one has a session
    again = JobProcess(command, tmp_path / "again")
    assert again.end() == 0, again.told
    assert lost.end() == -signal.SIGKILL
    assert_same(fresh_lake, undisturbed)
    assert [row["verdict"] for row in fresh_lake.read(JOB_RUNS).collect()] == ["succeeded"]


def test_a_night_and_a_backfill_at_once_both_end_and_leave_what_each_leaves_alone(
    fresh_lake, undisturbed, spark, tmp_path
):
    candidate = put_candidate(fresh_lake, spark, tmp_path / "candidate")
    backfill = ["embedding", "backfill", f"--date={DAY}", f"--lake={fresh_lake.folder}", f"--model-version={candidate}"]
    runs = [
        JobProcess([*fresh_lake.command(), f"--model-version={fresh_lake.model_version}"], tmp_path / "night"),
        JobProcess([*backfill, "--batch-size=8", "--slice-size=400"], tmp_path / "backfill"),
    ]
    assert [run.end() for run in runs] == [0, 0], [run.told for run in runs]
    vectors = fresh_lake.read(ITEM_EMBEDDINGS)
    assert vectors.where(F.col("model_version") == candidate).count() == ITEMS_IN_ALL
    assert_same(fresh_lake, undisturbed)
