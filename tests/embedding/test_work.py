"""The comparison of hashes is the truth; the change data feed finds the same work, or steps aside and says why."""

import datetime as dt
import random
import shutil
from pathlib import Path

import pytest
from pyspark.sql import functions as F

from jobs.embedding import items as job
from jobs.embedding.work import last_position, stale_items, without_spent_retries
from schemas import EMBEDDING_FAILURES, ITEM_EMBEDDINGS, ITEMS
from tests.embedding.products import DAY, NEXT_DAY, put_items, vectors
from tests.photos import jpeg


def reasons(record) -> dict[str, int]:
    told = {name.removeprefix("items_"): int(n) for name, n in record["figures"].items() if name.startswith("items_")}
    told.pop("version")
    return told


@pytest.fixture
def catalog(lake, spark, promoted_model, run_job) -> str:
    """Four items, all embedded on the first day."""
    put_items(lake, spark, ("a", "red dress", jpeg("red")), ("b", "blue shirt", jpeg("blue")), ("c", "hat", None))
    put_items(lake, spark, ("d", "shoe", None))
    assert reasons(run_job(job, date=DAY)) == {"new": 4}
    return promoted_model


def test_each_item_says_why_it_is_work(lake, spark, run_job, catalog):
    put_items(
        lake,
        spark,
        ("a", "red evening dress", jpeg("red")),
        ("b", "blue shirt", jpeg("navy")),
        ("c", "straw hat", jpeg("yellow")),
        ("e", "new bag", None),
    )
    expected = {"new": 1, "title_changed": 1, "photo_changed": 1, "title_and_photo_changed": 1}
    assert reasons(run_job(job, date=NEXT_DAY)) == expected


def test_under_another_model_every_item_is_work_because_of_the_model(lake, spark, catalog):
    put_items(lake, spark, ("e", "new bag", None))
    stale = stale_items(lake.read(ITEMS), lake.read(ITEM_EMBEDDINGS), model_version="another model").collect()
    assert {row["item_id"]: row["reason"] for row in stale} == dict.fromkeys("abcd", "model_changed") | {"e": "new"}


def test_a_failed_item_is_tried_again_until_its_nights_are_spent(spark):
    schema = "item_id string, content_hash string, reason string"
    stale = spark.createDataFrame([(item, f"hash of {item}", "new") for item in "abcd"], schema)
    failures = spark.createDataFrame(
        [
            ("a", "m", "hash of a", "NaN", 4, DAY),
            ("b", "m", "hash of b", "NaN", 5, DAY),
            ("c", "m", "hash of another title", "NaN", 5, DAY),
            ("d", "another model", "hash of d", "NaN", 5, DAY),
        ],
        EMBEDDING_FAILURES.schema,
    )
    options = {"model_version": "m", "max_attempts": 5}
    tonight = without_spent_retries(stale, failures, date=NEXT_DAY, **options).collect()
    assert {row["item_id"]: row["reason"] for row in tonight} == {"a": "retry", "c": "new", "d": "new"}
    again = without_spent_retries(stale, failures, date=DAY, **options).collect()
    assert {row["item_id"] for row in again} == {"c", "d"}


def test_the_feed_and_the_full_comparison_find_the_same_work(lake, spark, run_job, catalog, monkeypatch):
    """Nights of random changes; what the feed finds is what a comparison of everything found just before."""
    found = []

    def watched(job_run, options, rows, *others, whole=job.embed_rows, **named):
        found.extend((row["item_id"], row["content_hash"]) for row in rows.collect())
        return whole(job_run, options, rows, *others, **named)

    monkeypatch.setattr(job, "embed_rows", watched)
    dice = random.Random(4)
    titles, photos = ["red dress", "blue shirt", "hat", "shoe"], [None, jpeg("red"), jpeg("blue")]
    for night in range(4):
        for _ in range(dice.randrange(4)):
            product = (dice.choice("abcdefgh"), dice.choice(titles), dice.choice(photos))
            put_items(lake, spark, product, active=dice.random() < 0.7, price=dice.random())
        everything = stale_items(lake.read(ITEMS), lake.read(ITEM_EMBEDDINGS), model_version=catalog).collect()
        found.clear()
        record = run_job(job, date=NEXT_DAY + dt.timedelta(days=night))
        assert sorted(found) == sorted((row["item_id"], row["content_hash"]) for row in everything)
        assert list(record["notes"]) == []


def test_what_the_model_does_not_read_is_no_work_and_no_change_costs_no_comparison(
    lake, spark, run_job, catalog, monkeypatch
):
    compared = []
    monkeypatch.setattr(
        "jobs.embedding.work.stale_items",
        lambda items, *others, **options: compared.append(items.count()) or stale_items(items, *others, **options),
    )
    assert run_job(job, date=NEXT_DAY)["verdict"] == "unchanged"
    assert run_job(job, date=NEXT_DAY, full_comparison=True)["verdict"] == "unchanged"
    put_items(lake, spark, ("a", "red dress", jpeg("red")), price=99.0)
    assert run_job(job, date=NEXT_DAY)["verdict"] == "unchanged"
    assert compared == [4, 1]


def test_without_the_feeds_start_everything_is_compared_and_the_run_says_so(lake, spark, run_job, catalog):
    put_items(lake, spark, ("a", "red evening dress", jpeg("red")))
    put_items(lake, spark, ("e", "new bag", None))
    log = Path(lake.path("tables", "items", "_delta_log"))
    delta_log = spark._jvm.org.apache.spark.sql.delta.DeltaLog
    delta_log.forTable(spark._jsparkSession, lake.table_uri(ITEMS)).checkpoint()
    for commit in sorted(log.glob("*.json"))[:-1]:
        commit.unlink()
    delta_log.clearCache()
    record = run_job(job, date=NEXT_DAY)
    assert reasons(record) == {"new": 1, "title_changed": 1}
    assert (
        "all items were compared with all vectors: the change data feed of items does not reach back"
        in (record["notes"][0])
    )


def test_vectors_that_went_missing_are_found_although_no_item_changed(lake, run_job, catalog):
    lake.delta(ITEM_EMBEDDINGS).delete(F.col("item_id") == "b")
    record = run_job(job, date=NEXT_DAY)
    assert reasons(record) == {"new": 1}
    assert record["notes"] == ["all items were compared with all vectors: there are 3 vectors, and the last run left 4"]
    assert set(vectors(lake)) == set("abcd")


def test_a_table_that_was_made_anew_is_compared_as_a_whole(lake, spark, run_job, catalog):
    shutil.rmtree(lake.path("tables", "items"))
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    lake._verified.clear()
    put_items(lake, spark, ("z", "scarf", None))
    position = last_position(lake, catalog)
    assert lake.version(ITEMS) < position.items_version
    record = run_job(job, date=NEXT_DAY)
    assert reasons(record) == {"new": 1}
    assert f"the last run read {position.items_version}" in record["notes"][0]
