"""What is let go is what nobody uses, and what is used stays, whatever its age."""

import datetime as dt
import os
import time

import pytest
from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.core.lease import held_lease
from jobs.embedding import items as nightly
from jobs.embedding.staging import staged_rows, staging_parts
from jobs.embedding.vectors import lease_name
from jobs.operations import maintain as job
from schemas import (
    EMBEDDING_FAILURES,
    INDEX_BUILDS,
    ITEM_EMBEDDINGS,
    ITEMS,
    JOB_RUNS,
    MODELS,
    QUERY_EMBEDDINGS,
    QUERY_EVENTS,
    REJECTED_ROWS,
    TRAINING_SETS,
)
from tests.embedding.products import put_items, vectors
from tests.operations.nights import build_row, job_run

TODAY = dt.date(2026, 12, 31)
LONG_AGO = dt.date(2026, 11, 1)
RECENTLY = dt.date(2026, 12, 20)
MODELS_OF_ITEMS = ("serving", "newest", "embedded under", "indexed", "forsaken", "unknown")


def days_ago(days: int) -> dt.date:
    return TODAY - dt.timedelta(days=days)


@pytest.fixture
def versions(lake, spark):
    """Six models with a row in each table of a model; all were made long ago, and one of them is used by nobody."""
    made = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    later = made + dt.timedelta(days=1)
    models = [
        (version, "w", "p", "set", "{}", 2, {}, stage, None, made, promoted_at, None)
        for version, stage, promoted_at in (
            ("serving", "promoted", made),
            ("newest", "promoted", later),
            ("embedded under", "candidate", None),
            ("indexed", "promoted", made),
            ("forsaken", "promoted", made),
        )
    ]
    lake.append(MODELS, spark.createDataFrame(models, MODELS.schema))
    of_items = [("a", version, "h", [1.0, 0.0], 1.0, 0.0, 0.0, "missing", "r") for version in MODELS_OF_ITEMS]
    lake.append(ITEM_EMBEDDINGS, spark.createDataFrame(of_items, ITEM_EMBEDDINGS.schema))
    failed = [("b", version, "h", "NaN", 1, LONG_AGO) for version in MODELS_OF_ITEMS]
    lake.append(EMBEDDING_FAILURES, spark.createDataFrame(failed, EMBEDDING_FAILURES.schema))
    of_queries = [("red", version, [1.0, 0.0], 1, "r") for version in MODELS_OF_ITEMS]
    lake.append(QUERY_EMBEDDINGS, spark.createDataFrame(of_queries, QUERY_EMBEDDINGS.schema))

    def build(build_id: str, version: str, date: dt.date, status: str):
        row = dict(zip(INDEX_BUILDS.column_names, build_row(build_id, date=date, status=status, gates=[]), strict=True))
        return row | {"model_version": version}

    builds = [build("b1", "serving", LONG_AGO, "published"), build("b2", "indexed", RECENTLY, "superseded")]
    lake.append(INDEX_BUILDS, spark.createDataFrame(builds, INDEX_BUILDS.schema))
    run = dict(zip(JOB_RUNS.column_names, job_run("embedding items", date=RECENTLY), strict=True))
    run["arguments"] = '{"model_version": "embedded under"}'
    lake.append(JOB_RUNS, spark.createDataFrame([run], JOB_RUNS.schema))
    return MODELS_OF_ITEMS


def with_rows(lake, table) -> set[str]:
    return {row["model_version"] for row in lake.read(table).collect()}


def test_a_model_that_nobody_uses_is_retired_and_no_other(lake, run_job, versions):
    staged = lake.path(*staging_parts("forsaken"), "chunk-x-1.parquet")
    lake.fs.makedirs(lake.path(*staging_parts("forsaken")))
    lake.fs.pipe_file(staged, b"")
    assert run_job(job, date=RECENTLY, retire_after_days=60)["verdict"] == "unchanged"
    record = run_job(job, date=TODAY)
    assert record["notes"] == ["forsaken is retired: nothing was embedded or indexed under it since 2026-11-01"]
    for table in (ITEM_EMBEDDINGS, EMBEDDING_FAILURES, QUERY_EMBEDDINGS):
        assert with_rows(lake, table) == set(versions) - {"forsaken"}
    others = ("builds", "abandoned_folders", "rows_of_delisted_items", "query_events", "rejected_rows")
    none = dict.fromkeys((*others, "models", "training_sets", "reports"), 0)
    assert record["figures"] == {**none, "rows_of_retired_models": 3}
    stages = dict(lake.read(MODELS).select("model_version", "stage").collect())
    assert [version for version, stage in stages.items() if stage == "retired"] == ["forsaken"]
    assert staged_rows(lake, "forsaken") == 0

    tables = (ITEM_EMBEDDINGS, EMBEDDING_FAILURES, QUERY_EMBEDDINGS, MODELS)
    before = lake.versions(*tables)
    assert run_job(job, date=TODAY)["verdict"] == "unchanged"
    assert lake.versions(*tables) == before


def test_what_serves_what_was_promoted_last_and_what_a_kept_build_is_of_stay_for_ever(lake, run_job, versions):
    run_job(job, date=dt.date(2036, 1, 1))
    # No run and no model tells since when the unknown one is there.
    assert with_rows(lake, ITEM_EMBEDDINGS) == {"serving", "newest", "indexed", "unknown"}
    lake.delta(INDEX_BUILDS).update(F.col("build_id") == "b2", {"status": F.lit("removed")})
    run_job(job, date=dt.date(2036, 1, 1))
    assert with_rows(lake, ITEM_EMBEDDINGS) == {"serving", "newest", "unknown"}


def test_a_model_that_is_at_work_is_not_touched(lake, run_job, versions):
    class Holder:
        run_id, name, note = "another", "embedding backfill", print

    Holder.lake = lake
    with held_lease(Holder, lease_name("forsaken")):
        record = run_job(job, date=TODAY)
    assert record["verdict"] == "failed"
    assert "item_embeddings-forsaken: run another" in record["notes"][-1]
    assert with_rows(lake, ITEM_EMBEDDINGS) == set(versions)


@pytest.mark.slow
def test_a_relisted_item_has_its_vector_back_until_its_days_are_over(lake, spark, run_job, promoted_model):
    def delist(item_id: str, date: dt.date) -> None:
        gone = {"is_active": F.lit(False), "inactive_since": F.lit(date)}
        lake.delta(ITEMS).update(F.col("item_id") == item_id, gone)

    put_items(lake, spark, ("a", "red dress", None), ("b", "blue shirt", None), ("c", "hat", None))
    run_job(nightly, date=days_ago(100))
    delist("a", days_ago(91))
    delist("b", days_ago(90))
    before = vectors(lake)
    record = run_job(job, date=TODAY)
    assert record["figures"]["rows_of_delisted_items"] == 1
    assert vectors(lake) == {item: before[item] for item in "bc"}

    put_items(lake, spark, ("b", "blue shirt", None))
    assert run_job(nightly, date=TODAY)["verdict"] == "unchanged"
    put_items(lake, spark, ("a", "red dress", None))
    again = run_job(nightly, date=TODAY)
    assert (again["rows_out"], again["figures"]["items_new"]) == (1, 1)
    assert vectors(lake)["a"]["embedding"] == pytest.approx(before["a"]["embedding"], abs=1e-6)


def test_folders_of_models_go_when_nobody_has_used_them_for_long(lake, run_job, versions):
    folders = set(versions) - {"unknown"}
    for version in folders:
        lake.fs.makedirs(lake.path("models", version))
        lake.fs.pipe_file(lake.path("models", version, "config.json"), b"{}")

    def present() -> set[str]:
        return {path.rpartition("/")[2] for path in lake.fs.ls(lake.path("models"), detail=False)}

    run_job(job, date=LONG_AGO + dt.timedelta(days=400))
    assert present() == folders
    record = run_job(job, date=LONG_AGO + dt.timedelta(days=401))
    assert record["figures"]["models"] == 1
    assert present() == folders - {"forsaken"}
    run_job(job, date=RECENTLY + dt.timedelta(days=401))
    assert present() == {"serving", "newest", "indexed"}
    stages = dict(lake.read(MODELS).select("model_version", "stage").collect())
    assert {version for version, stage in stages.items() if stage == "retired"} == {"forsaken", "embedded under"}
    assert run_job(job, date=RECENTLY + dt.timedelta(days=401))["verdict"] == "unchanged"


def test_leases_of_tries_that_nobody_repeated_go(lake, run_job):
    lake.fs.makedirs(lake.path("leases"))
    for name, days in {"try-a-1": 1, "try-b-2": 0, "item_embeddings-m": 1}.items():
        path = lake.path("leases", f"{name}.00000001.json")
        lake.fs.pipe_file(path, b"{}")
        os.utime(path, (time.time() - days * 86_400 - 60,) * 2)
    run_job(job, date=TODAY)
    left = {path.rpartition("/")[2].partition(".")[0] for path in lake.fs.ls(lake.path("leases"), detail=False)}
    assert left == {"try-b-2", "item_embeddings-m"}


def test_events_and_refused_rows_are_kept_for_their_days(lake, spark, run_job):
    def event(date: dt.date):
        return (date.isoformat(), date, dt.datetime(date.year, date.month, date.day), "s", "red", "a", "click", 1)

    dates = [days_ago(days) for days in (401, 400, 0)]
    lake.append(QUERY_EVENTS, spark.createDataFrame(map(event, dates), QUERY_EVENTS.schema))
    refused = [("query_log", date, "empty_query", "{}") for date in dates]
    lake.append(REJECTED_ROWS, spark.createDataFrame(refused, REJECTED_ROWS.schema))
    figures = run_job(job, date=TODAY)["figures"]
    assert (figures["query_events"], figures["rejected_rows"]) == (1, 1)
    assert {row["event_date"] for row in lake.read(QUERY_EVENTS).collect()} == set(dates[1:])
    assert {row["logical_date"] for row in lake.read(REJECTED_ROWS).collect()} == set(dates[1:])


def build(number: int, status: str, *, model: str = "serving", was_published: bool = False) -> Row:
    """A build's row: the higher its number, the later its night."""
    at = dt.datetime(2026, 11, number, 3)
    was_published = was_published or status in ("published", "superseded")
    columns = {"build_id": f"b{number}", "logical_date": at.date(), "built_at": at, "model_version": model}
    return Row(**columns, status=status, published_at=at if was_published else None)


@pytest.mark.parametrize(
    ("statuses", "kept"),
    [
        ("ssssp", {4, 5}),
        ("sspss", {2, 3, 4, 5}),  # after a rollback: where the next one goes, and what is newer
        ("psssss", {1, 5, 6}),
        ("ssfpfb", {2, 4, 5, 6}),  # a night that failed goes once a later one has published
        ("saapaa", {1, 4, 5, 6}),
        ("saAp", {1, 3, 4}),  # published before, taken up again by a later night
        ("fab", {1, 2, 3}),  # nothing was published yet
    ],
)
def test_builds_stay_that_may_be_gone_back_to_or_still_be_published(statuses, kept):
    names = {"s": "superseded", "p": "published", "f": "failed", "a": "passed", "A": "passed", "b": "built"}
    builds = [build(n, names[letter], was_published=letter == "A") for n, letter in enumerate(statuses, start=1)]
    assert job.builds_to_keep(builds[::-1], keep=2, coming=()) == {f"b{number}" for number in kept}


def test_a_build_that_waits_for_its_model_to_serve_stays_however_many_nights_publish_meanwhile():
    builds = [build(1, "passed", model="next"), build(2, "failed", model="next"), build(3, "passed", model="last")]
    builds += [build(number, "superseded") for number in range(4, 9)] + [build(9, "published")]
    assert job.builds_to_keep(builds[::-1], keep=2, coming={"next"}) == {"b1", "b8", "b9"}


def test_builds_go_with_their_folders_and_so_does_what_killed_runs_left(lake, spark, run_job, versions):
    later = [build_row(f"b{number}", date=days_ago(10 - number), status="superseded", gates=[]) for number in (3, 4)]
    unpublished = [build_row("b5", date=LONG_AGO, status="passed", gates=[]), build_row("b6", date=RECENTLY, gates=[])]
    rows = [dict(zip(INDEX_BUILDS.column_names, row, strict=True)) for row in (*later, *unpublished)]
    rows[2]["model_version"] = "newest"
    rows[3] |= {"status": "failed", "published_at": None}
    lake.append(INDEX_BUILDS, spark.createDataFrame(rows, INDEX_BUILDS.schema))
    old = [*(f"b{number}/manifest.json" for number in range(1, 7)), "CURRENT", "CURRENT.1f", "lost/a.faiss", "mixed/a"]

    def put(names: list[str], days: int) -> None:
        for name in names:
            path = lake.path("indexes", name)
            lake.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            lake.fs.pipe_file(path, b"")
            os.utime(path, (time.time() - days * 86_400 - 60,) * 2)

    put(old, days=1)
    put(["young/a.faiss", "mixed/b"], days=0)
    record = run_job(job, date=TODAY, keep_builds=2)
    assert (record["figures"]["builds"], record["figures"]["abandoned_folders"]) == (2, 2)
    left = {path.rpartition("/")[2] for path in lake.fs.ls(lake.path("indexes"), detail=False)}
    assert left == {"b1", "b3", "b4", "b5", "CURRENT", "young", "mixed"}
    statuses = {row["build_id"]: row["status"] for row in lake.read(INDEX_BUILDS).collect()}
    assert statuses == {
        "b1": "published", "b2": "removed", "b3": "superseded", "b4": "superseded", "b5": "passed", "b6": "removed",
    }  # fmt: skip

    put(["b6/manifest.json"], days=1)  # as if the run had been killed before the folder went
    version = lake.version(INDEX_BUILDS)
    again = run_job(job, date=TODAY, keep_builds=2)
    assert (again["figures"]["builds"], again["figures"]["abandoned_folders"]) == (0, 1)
    assert lake.version(INDEX_BUILDS) == version


def test_the_newest_training_sets_stay_and_so_do_young_pages(lake, spark, run_job):
    def training_set(number: int):
        at = dt.datetime(2026, 11, number, tzinfo=dt.UTC)
        return (f"set-{number}", at.date(), f"training_sets/set-{number}", 1, 0, 0, 1, 1, {}, at)

    lake.append(TRAINING_SETS, spark.createDataFrame(map(training_set, (1, 2, 3)), TRAINING_SETS.schema))
    for number in (1, 2, 3):
        lake.fs.makedirs(lake.path("training_sets", f"set-{number}"))
    ages = {"old": 401, "young": 399}
    for run_id, days in ages.items():
        page = lake.path("reports", run_id, "index.html")
        lake.fs.makedirs(page.rpartition("/")[0])
        lake.fs.pipe_file(page, b"")
        written = dt.datetime.combine(days_ago(days), dt.time(12), dt.UTC).timestamp()
        os.utime(page, (written, written))
    record = run_job(job, date=TODAY, keep_training_sets=2)
    assert (record["figures"]["training_sets"], record["figures"]["reports"]) == (1, 1)
    assert {row["training_set_id"] for row in lake.read(TRAINING_SETS).collect()} == {"set-2", "set-3"}
    left = {
        folder: {path.rpartition("/")[2] for path in lake.fs.ls(lake.path(folder), detail=False)}
        for folder in ("training_sets", "reports")
    }
    assert left == {"training_sets": {"set-2", "set-3"}, "reports": {"young"}}
    assert run_job(job, date=TODAY, keep_training_sets=2)["verdict"] == "unchanged"
