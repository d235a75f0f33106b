"""Whatever disturbs a night's build, searches have the published one, and the next run finishes the job.

`kill -9` of the driver while shards are written, while and after they are judged, while they are published; of Python
workers under way; and two publishers at once.
"""

import datetime as dt
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from pyspark.sql import functions as F

from benchmarks.processes import JobProcess, standalone_cluster
from jobs.core.lake import Lake
from jobs.index import build, check, publish
from jobs.index.builds import published_build
from jobs.index.manifest import Current
from jobs.index.searcher import Searcher
from schemas import INDEX_BUILDS, ITEM_EMBEDDINGS, ITEMS
from tests.lakes import put_promoted_model

ITEMS_IN_ALL, DIMENSION = 20_000, 64
# So many tasks follow each other that some shards are there while others are not.
SHARDS = 12
FIRST, SECOND = dt.date(2026, 11, 1), dt.date(2026, 11, 2)
OPTIONS = {"build": [f"--shards={SHARDS}"]}
# What no two runs have in common.
CLOCKS = ("delta_versions", "built_at", "published_at")
TIMED = "latency_p95_ms"

pytestmark = pytest.mark.slow


class LakeOfTest(Lake):
    """A lake whose folder is watched from outside while jobs write to it."""

    def __init__(self, spark, folder: Path) -> None:
        super().__init__(spark, str(folder))
        self.folder, self.indexes = folder, folder / "indexes"

    def copy(self, folder: Path) -> "LakeOfTest":
        shutil.copytree(self.folder, folder / "lake")
        return LakeOfTest(self._spark, folder / "lake")

    def start(self, job: str, folder: Path, conf_dir: Path | None = None) -> JobProcess:
        """One of the second night's jobs, in a process of its own."""
        arguments = ["index", job, f"--date={SECOND}", f"--lake={self.folder}", *OPTIONS.get(job, [])]
        return JobProcess(arguments, folder / job, conf_dir)

    def builds(self) -> dict[str, dict]:
        """Rows of index_builds by build, without clocks and what was measured by them."""
        of_clocks = F.filter("gates", lambda gate: gate["gate"] != TIMED)
        rows = self.read(INDEX_BUILDS).drop(*CLOCKS).withColumn("gates", of_clocks).collect()
        return {row["build_id"]: row.asDict(recursive=True) for row in rows}

    def commits(self) -> int:
        """Commits of index_builds, counted without Spark."""
        return len(list((self.folder / "tables" / INDEX_BUILDS.name / "_delta_log").glob("*.json")))

    def current(self) -> str:
        return Current.read(str(self.indexes)).build_id

    def files(self, build_id: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.indexes / build_id).iterdir()}

    def shards_of(self, build_id: str) -> list[Path]:
        return list((self.indexes / build_id).glob("shard-*.faiss"))

    def has_manifest(self, build_id: str) -> bool:
        return (self.indexes / build_id / "manifest.json").exists()


def put_items(lake: Lake, spark, seed: int, count: int) -> None:
    """Give the first `count` items new content, and vectors of it, none like another."""
    (model_version,) = (path.rpartition("/")[2] for path in lake.fs.ls(lake.path("models"), detail=False))
    vectors = np.random.default_rng(seed).normal(size=(count, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"item-{row:05}" for row in range(count)]
    rows = pd.DataFrame(
        {"item_id": ids, "content_hash": [f"{seed}-{item}" for item in ids], "embedding": list(vectors)}
    )
    frame = spark.createDataFrame(rows, "item_id string, content_hash string, embedding array<float>").persist()

    def put(table, **columns) -> None:
        absent = {name: F.lit(None) for name in table.column_names if name not in frame.columns}
        lake.merge(table, frame.withColumns({**absent, **columns}).select(table.column_names))

    date = F.lit(FIRST)
    put(ITEMS, title=F.lit("red dress"), is_active=F.lit(True), first_seen=date, snapshot_date=date)
    weights = {"title_weight": F.lit(0.75), "image_weight": F.lit(0.25), "photo_effect": F.lit(0.1)}
    of_run = {"model_version": F.lit(model_version), "image_status": F.lit("ok"), "run_id": F.lit("test")}
    put(ITEM_EMBEDDINGS, **weights, **of_run)
    frame.unpersist()


@pytest.fixture(scope="module", autouse=True)
def lenient_gates():
    """The vectors are made up, no model makes them of the titles; and a machine that runs tests is busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAKE_AGREEMENT_ITEMS", "0")
        patch.setenv("MAKE_MAX_LATENCY_MS", "60000")
        yield


@pytest.fixture(scope="module")
def nights(spark, run_job_in, model_folder, tmp_path_factory) -> dict[str, LakeOfTest]:
    """The lake of an undisturbed second night, after each of its steps; "first" is the lake before."""
    folder = tmp_path_factory.mktemp("nights")
    lake = LakeOfTest(spark, folder / "lake")
    put_promoted_model(lake, spark, model_folder)
    put_items(lake, spark, seed=0, count=ITEMS_IN_ALL)
    for job in (build, check, publish):
        assert run_job_in(lake, job, date=FIRST)["verdict"] == "succeeded"
    put_items(lake, spark, seed=1, count=ITEMS_IN_ALL // 10)
    after = {"first": lake.copy(folder / "first")}
    run = lake.start("build", folder)
    assert run.end() == 0, run.told
    for name, job in (("build", check), ("check", publish)):
        after[name] = lake.copy(folder / name)
        assert run_job_in(lake, job, date=SECOND)["verdict"] == "succeeded"
    return {**after, "publish": lake}


@pytest.fixture(scope="module")
def first(nights) -> str:
    """The build of the first night."""
    return nights["first"].current()


@pytest.fixture(scope="module")
def second(nights) -> str:
    """The build of the second night."""
    return nights["publish"].current()


@pytest.fixture
def finish(run_job_in):
    """Runs the second night's jobs, each of which has something to do: `finish(lake, check, publish)`."""

    def run(lake: LakeOfTest, *jobs) -> None:
        for job in jobs:
            record = run_job_in(lake, job, date=SECOND)
            assert record["verdict"] == "succeeded", record["notes"]

    return run


def answers(lake: LakeOfTest) -> tuple[list[str], np.ndarray]:
    """What a reader without Spark finds in the published build: ids of all items, and the rows nearest to some."""
    searcher = Searcher.published(str(lake.indexes))
    queries = np.random.default_rng(2).normal(size=(20, DIMENSION)).astype(np.float32)
    return searcher.items(["item_id"])["item_id"].to_pylist(), searcher.search(queries, 10).rows


def assert_answers_of(lake: LakeOfTest, expected: LakeOfTest) -> None:
    (ids, rows), (expected_ids, expected_rows) = answers(lake), answers(expected)
    assert ids == expected_ids
    np.testing.assert_array_equal(rows, expected_rows)


def assert_same(lake: LakeOfTest, expected: LakeOfTest) -> None:
    """Builds, files and what is published, all as the undisturbed night left them."""
    build_id = expected.current()
    assert lake.builds() == expected.builds()
    assert {path.name for path in lake.indexes.iterdir()} == {path.name for path in expected.indexes.iterdir()}
    assert lake.files(build_id) == expected.files(build_id)
    assert (lake.indexes / "CURRENT").read_bytes() == (expected.indexes / "CURRENT").read_bytes()
    assert_answers_of(lake, expected)


def test_a_driver_is_killed_while_shards_are_written(nights, second, finish, tmp_path):
    lake = nights["first"].copy(tmp_path)
    run = lake.start("build", tmp_path)
    run.wait_until(lambda: bool(lake.shards_of(second)))
    run.kill()
    assert lake.shards_of(second)
    assert not lake.has_manifest(second)
    assert_answers_of(lake, nights["first"])
    again = lake.start("build", tmp_path / "again")
    assert again.end() == 0, again.told
    finish(lake, check, publish)
    assert_same(lake, nights["publish"])


def test_a_driver_is_killed_while_the_build_is_judged(nights, second, finish, tmp_path):
    lake = nights["build"].copy(tmp_path)
    run = lake.start("check", tmp_path)
    run.wait_until(lambda: any(second in mapped.path for mapped in psutil.Process(run.pid).memory_maps()))
    run.kill()
    assert lake.builds()[second]["status"] == "built"
    assert_answers_of(lake, nights["first"])
    finish(lake, check, publish)
    assert_same(lake, nights["publish"])


def test_a_driver_is_killed_once_the_build_is_judged(nights, second, finish, tmp_path):
    lake = nights["build"].copy(tmp_path)
    commits = lake.commits()
    run = lake.start("check", tmp_path)
    run.wait_until(lambda: lake.commits() > commits)
    run.kill()
    assert lake.builds()[second]["status"] == "passed"
    assert_answers_of(lake, nights["first"])
    finish(lake, publish)
    assert_same(lake, nights["publish"])


def test_a_driver_is_killed_when_it_begins_to_publish(nights, finish, tmp_path):
    lake = nights["check"].copy(tmp_path)
    run = lake.start("publish", tmp_path)
    run.wait_until(lambda: any((lake.folder / "leases").glob("index_builds-*.json")))
    run.kill()
    assert lake.builds() == nights["check"].builds()
    assert_answers_of(lake, nights["first"])
    finish(lake, publish)
    assert_same(lake, nights["publish"])


def test_a_driver_is_killed_between_the_commit_and_its_mirror(nights, first, second, run_job_in, tmp_path):
    lake = nights["check"].copy(tmp_path)
    commits = lake.commits()
    run = lake.start("publish", tmp_path)
    run.wait_until(lambda: lake.commits() > commits)
    run.kill()
    assert (published_build(lake)["build_id"], lake.current()) == (second, first)
    assert_answers_of(lake, nights["first"])
    assert run_job_in(lake, publish, date=SECOND)["verdict"] == "unchanged"
    assert_same(lake, nights["publish"])


def test_python_workers_are_killed_while_shards_are_written_and_leave_no_trace(nights, second, finish, tmp_path):
    lake = nights["first"].copy(tmp_path)
    with standalone_cluster(tmp_path / "cluster") as cluster:
        run = lake.start("build", tmp_path, cluster.conf_dir)
        run.wait_until(lambda: bool(lake.shards_of(second)))

        def lost_a_task() -> bool:  # a worker that dies between two tasks is not missed
            for worker in cluster.python_workers():
                worker.kill()
            return "Lost task" in (tmp_path / "build" / "logs" / "spark.log").read_text()

        run.wait_until(lost_a_task)
        assert run.end() == 0, run.told
    finish(lake, check, publish)
    assert_same(lake, nights["publish"])


def test_of_two_publishers_at_once_one_wins_and_the_other_says_why_it_did_not(nights, tmp_path):
    lake = nights["check"].copy(tmp_path)
    commits = lake.commits()
    runs = [lake.start("publish", tmp_path / name) for name in "ab"]
    status = {run: run.end() for run in runs}
    assert sorted(status.values()) == [0, 1], [run.told for run in runs]
    winner, loser = sorted(runs, key=status.get)
    assert f"(index publish, process {winner.pid} on" in loser.told
    assert "Wait until it has ended, or end it; this run has changed nothing." in loser.told
    assert lake.commits() == commits + 1
    assert_same(lake, nights["publish"])
