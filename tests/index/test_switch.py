"""Of runs that change at once what is published one wins, and whoever reads the build of before goes on."""

import datetime as dt
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest

from jobs.core.job import JobRun
from jobs.index import builds, publish, rollback
from jobs.index.builds import find_build, mark_removed, mirror_published, published_build, record_build
from jobs.index.manifest import Current
from jobs.index.searcher import Searcher
from jobs.operations import maintain
from schemas import INDEX_BUILDS, JOB_RUNS

DAY = dt.date(2026, 11, 1)
ROUNDS = 2


def day(number: int) -> dt.date:
    return DAY + dt.timedelta(days=number)


@pytest.fixture
def new_run(lake, spark):
    """A run of a job in the shared session, which a thread of its own would not find."""

    def make(module, run_id, **options) -> JobRun:
        run = JobRun(f"index {module.__name__.rpartition('.')[2]}", module.Options(lake=lake.root, **options))
        run.spark, run.run_id = spark, run_id
        return run

    return make


@pytest.fixture
def two_builds(lake, put_build):
    """Build 0, published before, and build 1, published."""
    put_build("build-0", day(0), "superseded")
    put_build("build-1", day(1), "published")
    mirror_published(lake, "build-1")


@pytest.fixture
def contest(lake, put_build, new_run):
    """Has two nights' publications and a rollback meet, again and again: `contest()` gives a round's records."""
    numbers = iter(range(2, 100, 2))

    def meet() -> list:
        number = next(numbers)
        for night in (number, number + 1):
            put_build(f"build-{night}", day(night), "passed")
        runs = {
            f"older-{number}": (publish, {"date": day(number)}),
            f"newer-{number}": (publish, {"date": day(number + 1)}),
            # Its hold is over for all of these nights.
            f"back-{number}": (rollback, {"by": "ann", "reason": "r", "build_id": f"build-{number}", "until": DAY}),
        }
        with ThreadPoolExecutor(len(runs)) as threads:
            for run_id, (module, options) in runs.items():
                threads.submit(new_run(module, run_id, **options).execute, module.run)
        return [row for row in lake.read(JOB_RUNS).collect() if row["run_id"] in runs]

    return meet


def assert_one_wins(lake, contest) -> list[str]:
    """One run makes one commit, which table and mirror tell alike; returns what the others say."""
    before = lake.version(INDEX_BUILDS)
    records = contest()
    won = [record for record in records if record["verdict"] == "succeeded"]
    assert len(won) == 1, records
    assert lake.version(INDEX_BUILDS) == before + 3  # two builds were put, one is published
    (published,) = [row["build_id"] for row in lake.read(INDEX_BUILDS).collect() if row["status"] == "published"]
    assert won[0]["notes"][-1].startswith(f"{published} ")
    assert Current.read(lake.uri("indexes")).build_id == published
    return [record["notes"][-1] for record in records if record["verdict"] == "failed"]


def test_of_runs_at_once_one_wins_and_the_others_stop_and_say_who_is_at_work(lake, two_builds, contest, monkeypatch):
    others_have_ended, mirror = threading.Barrier(3), builds.mirror_published
    execute = JobRun.execute

    def mirror_last(*build):
        others_have_ended.wait(60)
        mirror(*build)

    def tell_end(run, *job):
        status = execute(run, *job)
        if status:
            others_have_ended.wait(60)
        return status

    monkeypatch.setattr(builds, "mirror_published", mirror_last)
    monkeypatch.setattr(JobRun, "execute", tell_end)
    for _ in range(ROUNDS):
        refused = assert_one_wins(lake, contest)
        assert len(refused) == 2
        for line in refused:
            assert line.startswith("index_builds-published: run ")
            assert line.endswith("Wait until it has ended, or end it; this run has changed nothing.")


def test_of_runs_that_have_lost_their_lease_the_table_lets_one_win(lake, two_builds, contest, monkeypatch):
    all_are_sure = threading.Barrier(3)
    verify = builds.verify_servable

    def verify_together(*build):
        verify(*build)
        all_are_sure.wait(60)

    monkeypatch.setattr(builds, "held_lease", lambda *_: nullcontext())
    for module in (publish, rollback):
        monkeypatch.setattr(module, "verify_servable", verify_together)
    for _ in range(ROUNDS):
        moved_on = (
            "index_builds was changed by another run at the same moment; this run did not change it. Run it again"
        )
        assert assert_one_wins(lake, contest) == [moved_on] * 2


def test_a_verdict_that_is_recorded_at_the_same_moment_stops_nobody(lake, two_builds, put_build, new_run):
    put_build("build-2", day(2), "passed")
    put_build("build-x", day(1), "built")
    checked = find_build(lake, "build-x").asDict(recursive=True)
    run = new_run(publish, "publication", date=day(2))

    def judge() -> list[bool]:
        verdicts = [{"status": ("passed", "failed")[number % 2], "gates": []} for number in range(4)]
        return [record_build(run, {**checked, **verdict}) for verdict in verdicts]

    with ThreadPoolExecutor(2) as threads:
        judged, status = threads.submit(judge), threads.submit(run.execute, publish.run)
        assert (judged.result(), status.result()) == ([True] * 4, 0)
    assert {row["build_id"]: row["status"] for row in lake.read(INDEX_BUILDS).collect()} == {
        "build-0": "superseded", "build-1": "superseded", "build-2": "published", "build-x": "failed",
    }  # fmt: skip


def test_a_verdict_comes_too_late_for_a_build_that_is_published_by_then(lake, two_builds, new_run):
    verdict = {**published_build(lake).asDict(recursive=True), "status": "failed"}
    assert not record_build(new_run(publish, "check", date=day(1)), verdict)
    assert published_build(lake)["build_id"] == "build-1"


def test_a_build_that_is_removed_meanwhile_is_not_published_nor_the_published_one_removed(
    lake, two_builds, put_build, run_job, monkeypatch
):
    put_build("build-2", day(2), "passed")
    monkeypatch.setattr(publish, "verify_servable", lambda *_: mark_removed(lake, ["build-1", "build-2", "no row"]))
    record = run_job(publish, date=day(2))
    assert (record["verdict"], published_build(lake)["build_id"]) == ("failed", "build-1")
    assert "index_builds was changed by another run at the same moment" in record["notes"][-1]
    assert find_build(lake, "build-2")["status"] == "removed"
    assert mark_removed(lake, ["build-1", "build-2", "no row"]) == {"build-2", "no row"}


def test_a_reader_of_the_build_before_goes_on_when_others_are_published_and_its_folder_goes(
    lake, run_job, new_run, two_builds, put_build, vectors
):
    searcher = Searcher.published(lake.path("indexes"))
    queries = np.array(list(vectors.values()))
    expected = searcher.search(queries, 5).rows
    ended, answers = threading.Event(), []

    def read() -> None:
        while not ended.is_set():
            answers.append(searcher.search(queries, 5).rows)

    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read)
        put_build("build-1-again", day(1), "superseded")
        put_build("build-2", day(2), "passed", rows=queries[::-1])
        assert run_job(publish, date=day(2))["verdict"] == "succeeded"
        upkeep = new_run(maintain, "upkeep", date=day(3), keep_builds=2)
        maintain.remove_builds(upkeep, upkeep.options)
        assert not lake.fs.exists(lake.path("indexes", "build-1"))
        read_by_then = len(answers)
        while len(answers) < read_by_then + 10 and not reading.done():
            time.sleep(0.01)
        ended.set()
        reading.result()
    assert len(answers) >= read_by_then + 10
    for rows in answers:
        np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(searcher.search(queries, 5, exact=True).rows, expected)
    assert len(searcher.items(["title"])) == len(queries)
