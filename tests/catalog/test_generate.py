"""`catalog generate` writes what the other jobs read, the same bytes for the same options."""

import datetime as dt
import hashlib
from pathlib import Path

import pytest

from jobs.catalog import generate

ITEMS = 150


@pytest.fixture(scope="module")
def generated(spark, tmp_path_factory, run_job_in):
    """Two folders from the same options."""
    from jobs.core.lake import Lake

    place = tmp_path_factory.mktemp("generated")
    folders = [place / "once", place / "twice"]
    for folder in folders:
        options = {"items": ITEMS, "seed": 3, "days": 2, "date": dt.date(2026, 11, 20), "sessions_per_item": 2.0}
        record = run_job_in(Lake(spark, str(place / "lake")), generate, output=str(folder), **options)
        assert record.verdict == "succeeded"
    return folders


def table(spark, folder: Path, name: str):
    return spark.read.parquet(str(folder / name))


def test_every_table_has_the_columns_that_ingests_expect(spark, generated):
    catalog = ["item_id", "title", "category", "price", "in_stock", "image_uri", "updated_at"]
    log = ["event_id", "event_ts", "session_id", "query", "item_id", "event_type", "position"]
    for date in ("2026-11-20", "2026-11-21"):
        assert table(spark, generated[0], f"{date}/catalog").columns == catalog
        assert table(spark, generated[0], f"{date}/images").columns == ["image_uri", "content"]
        assert table(spark, generated[0], f"{date}/query_log").columns == log
    assert table(spark, generated[0], "judged_queries.parquet").columns == ["query_id", "query"]
    assert table(spark, generated[0], "judgments.parquet").columns == ["query_id", "item_id"]


@pytest.mark.parametrize(
    "name", ["2026-11-20/catalog", "2026-11-21/images", "2026-11-20/query_log", "judgments.parquet"]
)
def test_the_same_options_give_the_same_rows(spark, generated, name):
    once, twice = (sorted(map(_digest, table(spark, folder, name).collect())) for folder in generated)
    assert once == twice and once


def test_both_days_have_the_photos_that_their_catalog_names(spark, generated):
    for date in ("2026-11-20", "2026-11-21"):
        catalog = table(spark, generated[0], f"{date}/catalog").where("image_uri IS NOT NULL")
        photos = table(spark, generated[0], f"{date}/images")
        assert photos.select("image_uri").distinct().count() == photos.count()
        absent = catalog.join(photos, on="image_uri", how="left_anti").count()
        assert absent < 0.05 * ITEMS, "a few uris name no photo, on purpose"


def test_the_second_night_brings_its_own_day_of_log_and_no_other(spark, generated):
    first, second = (
        {row[0] for row in table(spark, generated[0], f"{date}/query_log").selectExpr("date(event_ts)").collect()}
        for date in ("2026-11-20", "2026-11-21")
    )
    assert {dt.date(2026, 11, 19), dt.date(2026, 11, 20)} <= first
    assert dt.date(2026, 11, 21) not in first
    assert min(second) == dt.date(2026, 11, 21), "only clocks that run ahead are later"


def test_every_judged_query_has_relevant_items_that_are_in_a_snapshot(spark, generated):
    queries = table(spark, generated[0], "judged_queries.parquet")
    judgments = table(spark, generated[0], "judgments.parquet")
    snapshots = [table(spark, generated[0], f"2026-11-{day}/catalog").select("item_id") for day in (20, 21)]
    assert queries.join(judgments, on="query_id", how="left_anti").isEmpty()
    assert judgments.join(queries, on="query_id", how="left_anti").isEmpty()
    assert judgments.join(snapshots[0].union(snapshots[1]), on="item_id", how="left_anti").isEmpty()


def _digest(row) -> str:
    return hashlib.sha256(repr([bytes(v) if isinstance(v, bytearray) else v for v in row]).encode()).hexdigest()
