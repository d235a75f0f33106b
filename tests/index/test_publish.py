"""Publishing and rolling back are one switch, and whatever may not be published leaves the published build alone."""

import datetime as dt

import pytest
from pyspark.sql import functions as F

from jobs.index import publish, release, rollback
from jobs.index.manifest import Current
from schemas import INDEX_BUILDS

DAYS = [dt.date(2026, 11, day) for day in range(1, 6)]
WHO = {"by": "ann", "reason": "shoes first"}


def statuses(lake) -> dict[str, str]:
    return {row["build_id"]: row["status"] for row in lake.read(INDEX_BUILDS).collect()}


def current(lake) -> str:
    return Current.read(lake.uri("indexes")).build_id


@pytest.fixture
def two_nights(lake, run_job, put_build):
    """Build a, published, then build b, published in its place."""
    for build_id, date in (("build-a", DAYS[0]), ("build-b", DAYS[1])):
        put_build(build_id, date, "passed")
        run_job(publish, date=date)


def test_publishing_leaves_one_published_build_in_one_commit_and_names_it_to_all_readers(lake, run_job, put_build):
    put_build("build-a", DAYS[0], "passed")
    assert run_job(publish, date=DAYS[0])["verdict"] == "succeeded"
    assert (statuses(lake), current(lake)) == ({"build-a": "published"}, "build-a")
    put_build("build-b", DAYS[1], "passed")
    version = lake.version(INDEX_BUILDS)
    record = run_job(publish, date=DAYS[1])
    assert "in place of build-a" in record["notes"][-1]
    assert lake.version(INDEX_BUILDS) == version + 1
    assert (statuses(lake), current(lake)) == ({"build-a": "superseded", "build-b": "published"}, "build-b")


def test_publishing_again_changes_nothing_but_mends_a_lost_mirror(lake, run_job, two_nights):
    lake.fs.rm(lake.path("indexes", "CURRENT"))
    version = lake.version(INDEX_BUILDS)
    assert run_job(publish, date=DAYS[1])["verdict"] == "unchanged"
    assert run_job(publish, date=DAYS[0])["verdict"] == "unchanged"
    assert run_job(publish, date=DAYS[2])["verdict"] == "unchanged"
    assert (lake.version(INDEX_BUILDS), current(lake)) == (version, "build-b")


@pytest.mark.parametrize(
    ("date", "status", "reason"),
    [
        (DAYS[2], "built", "is built, expected passed"),
        (DAYS[2], "failed", "is failed, expected passed"),
        (DAYS[0], "passed", "older than build-b of 2026-11-02, which stays published"),
    ],
)
def test_a_build_that_did_not_pass_or_is_older_is_refused(lake, run_job, two_nights, put_build, date, status, reason):
    put_build("build-c", date, status)
    record = run_job(publish, date=date)
    assert (record["verdict"], current(lake), statuses(lake)["build-b"]) == ("failed", "build-b", "published")
    assert reason in record["notes"][-1]


def test_a_build_whose_shard_was_changed_since_is_not_published(lake, run_job, two_nights, put_build):
    put_build("build-c", DAYS[2], "passed")
    lake.fs.pipe_file(lake.path("indexes", "build-c", "shard-00001-of-00002.faiss"), b"something else")
    record = run_job(publish, date=DAYS[2])
    assert (record["verdict"], current(lake)) == ("failed", "build-b")
    assert "shard-00001-of-00002.faiss: expected SHA-256" in record["notes"][-1]


def test_without_a_build_or_a_model_the_job_says_what_to_run(lake, run_job, promoted_model):
    record = run_job(publish, date=DAYS[0])
    assert record["verdict"] == "failed"
    assert "run `index build --date 2026-11-01` first" in record["notes"][-1]


def test_a_rollback_restores_the_build_of_before_and_holds_nights_until_released(lake, run_job, put_build):
    put_build("build-a", DAYS[0], "passed")
    run_job(publish, date=DAYS[0])
    before = lake.fs.cat_file(lake.path("indexes", "CURRENT"))
    put_build("build-b", DAYS[1], "passed")
    run_job(publish, date=DAYS[1])
    version = lake.version(INDEX_BUILDS)

    assert run_job(rollback, **WHO)["verdict"] == "succeeded"
    assert lake.version(INDEX_BUILDS) == version + 1
    assert lake.fs.cat_file(lake.path("indexes", "CURRENT")) == before
    published = lake.read(INDEX_BUILDS).where(F.col("status") == "published").first()
    assert (published["build_id"], published["hold"].asDict()) == ("build-a", {**WHO, "until": None})

    put_build("build-c", DAYS[2], "passed")
    held = run_job(publish, date=DAYS[2])
    assert (held["verdict"], current(lake)) == ("unchanged", "build-a")
    assert "build-c passed and waits. ann holds build-a until `index release`: shoes first" in held["notes"][-1]

    assert run_job(release)["verdict"] == "succeeded"
    assert run_job(release)["verdict"] == "unchanged"
    assert run_job(publish, date=DAYS[2])["verdict"] == "succeeded"
    assert statuses(lake) == {"build-a": "superseded", "build-b": "superseded", "build-c": "published"}
    assert lake.read(INDEX_BUILDS).where(F.col("hold").isNotNull()).count() == 0


def test_a_hold_ends_by_itself_after_its_last_date(lake, run_job, two_nights, put_build):
    run_job(rollback, **WHO, until=DAYS[2])
    for build_id, date, verdict in (("build-c", DAYS[2], "unchanged"), ("build-d", DAYS[3], "succeeded")):
        put_build(build_id, date, "passed")
        assert run_job(publish, date=date)["verdict"] == verdict
    assert current(lake) == "build-d"


def test_a_rollback_passes_over_damaged_builds_and_goes_on_backwards(lake, run_job, two_nights, put_build):
    for build_id, date in (("build-c", DAYS[2]), ("build-d", DAYS[3])):
        put_build(build_id, date, "passed")
        run_job(publish, date=date)
    lake.fs.rm(lake.path("indexes", "build-c", "shard-00000-of-00002.items.parquet"))
    record = run_job(rollback, **WHO)
    assert current(lake) == "build-b"
    assert "build-c of 2026-11-03 cannot serve" in record["notes"][0]
    run_job(rollback, **WHO)
    assert current(lake) == "build-a"
    last = run_job(rollback, **WHO)
    assert (last["verdict"], current(lake)) == ("failed", "build-a")
    run_job(rollback, **WHO, build_id="build-d")
    assert current(lake) == "build-d"


def test_a_rollback_to_a_build_that_never_passed_is_refused(lake, run_job, two_nights, put_build):
    put_build("build-c", DAYS[2], "failed")
    record = run_job(rollback, **WHO, build_id="build-c")
    assert (record["verdict"], current(lake)) == ("failed", "build-b")
    assert "build-c is failed" in record["notes"][-1]
