"""Catalog ingest, snapshot after snapshot: items follow, bytes are kept once, nothing happens twice or backwards."""

import datetime as dt
import hashlib
import os
from dataclasses import dataclass

import pytest
from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.catalog import ingest
from jobs.core.lake import Lake
from schemas import ITEM_IMAGES, ITEMS, REJECTED_ROWS
from tests.catalog.test_photos import picture

CATALOG = "item_id string, title string, category string, price double, in_stock string, image_uri string"
FIRST, SECOND, THIRD, FOURTH = (dt.date(2026, 11, day) for day in (1, 2, 3, 4))

WHOLE, OTHER, LARGE = picture(), picture(40), picture(size=(200, 200))
TRUNCATED = LARGE[: len(LARGE) // 2]
PHOTOS = {"1.jpg": WHOLE, "2.jpg": OTHER, "broken.jpg": TRUNCATED, "null.jpg": None}
TWICE = [("twice.jpg", picture(size=(8, 8))), ("twice.jpg", picture(size=(8, 9)))]


def product(number, title="Sock", price=9.5, in_stock="yes", photo=None):
    return (f"P{number}", title, "Clothes", price, in_stock, photo)


NO_ID = (None, "No id", None, None, None, None)
SNAPSHOT = {
    1: product(1, "Red dress", photo="1.jpg"),
    2: product(2, "Blue shirt", photo="2.jpg"),
    3: product(3, "Green hat", photo="1.jpg"),
    **{number: product(number) for number in range(4, 10)},
    11: product(11, photo="nowhere.jpg"),
    12: product(12, in_stock="maybe", photo="broken.jpg"),
    13: product(13, photo="twice.jpg"),
    14: product(14, photo="null.jpg"),
}
CHANGED = {
    **{number: row for number, row in SNAPSHOT.items() if number != 9},
    1: product(1, "Scarlet dress", photo="1.jpg"),
    3: product(3, "Green hat", price=1.0, photo="1.jpg"),
    4: product(4, title=" "),
    5: product(5, in_stock="no"),
    10: product(10, "New"),
}


@dataclass(frozen=True)
class State:
    """What a run left behind.

    Args:
        record: The run's row in job_runs.
        items: By item_id.
        images: Rows of item_images.
        versions: Of the tables that ingest writes.
        reasons: (source, day, reason) of the rejected rows, in order.
    """

    record: Row
    items: dict[str, Row]
    images: list[Row]
    versions: dict[str, int]
    reasons: list[tuple[str, int, str]]


@pytest.fixture(scope="module")
def nights(spark, tmp_path_factory, run_job_in):
    """A week of nights over one lake, by name, in the order in which they ran."""
    place = tmp_path_factory.mktemp("nights")
    lake = Lake(spark, str(place / "lake"))
    catalog, images = str(place / "catalog.parquet"), str(place / "images")
    states: dict[str, State] = {}

    def run(name, date, rows, photos=PHOTOS, **options):
        spark.createDataFrame(rows, CATALOG).coalesce(1).write.mode("overwrite").parquet(catalog)
        if photos is not None:
            table = spark.createDataFrame([*photos.items(), *TWICE], "image_uri string, content binary")
            table.coalesce(1).write.mode("overwrite").parquet(images)
        options = {"catalog": catalog, "images": None if photos is None else images, **options}
        states[name] = State(
            record=run_job_in(lake, ingest, date=date, **options),
            items={row.item_id: row for row in lake.read(ITEMS).collect()},
            images=lake.read(ITEM_IMAGES).collect(),
            versions=lake.versions(ITEMS, ITEM_IMAGES, REJECTED_ROWS),
            reasons=sorted(
                (row.source, row.logical_date.day, row.reason) for row in lake.read(REJECTED_ROWS).collect()
            ),
        )

    run("nothing acceptable", FIRST, [NO_ID])
    run("first", FIRST, [*SNAPSHOT.values(), NO_ID])
    run("first again", FIRST, [*SNAPSHOT.values(), NO_ID])
    run("changed", SECOND, list(CHANGED.values()), {**PHOTOS, "2.jpg": LARGE})
    run("back", THIRD, [*CHANGED.values(), SNAPSHOT[9]], {**PHOTOS, "2.jpg": LARGE})
    run("back again a day later", FOURTH, [*CHANGED.values(), SNAPSHOT[9]], {**PHOTOS, "2.jpg": LARGE})
    run("older", THIRD, [product(1, "Older title"), *list(SNAPSHOT.values())[1:], NO_ID])
    run("half", FOURTH, list(CHANGED.values())[:7])
    run("no photos", FOURTH, [*CHANGED.values(), SNAPSHOT[9]], None)
    run("half allowed", FOURTH, list(CHANGED.values())[:7], {**PHOTOS, "2.jpg": LARGE}, max_deactivated_share=0.6)
    return states


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_a_snapshot_without_an_acceptable_row_is_refused(nights):
    state = nights["nothing acceptable"]
    assert state.record.verdict == "failed"
    assert "none of its 1 rows can be accepted" in state.record.notes[-1]
    assert state.reasons == [("catalog", 1, "null_item_id")]
    assert not state.items


def test_a_first_snapshot_becomes_the_items(nights):
    record, items = nights["first"].record, nights["first"].items
    assert (record.verdict, record.rows_in, record.rows_out, record.rows_rejected) == ("succeeded", 14, 13, 1)
    assert (record.figures["items_new"], len(items)) == (13, 13)
    dress = items["P1"]
    assert (dress.title, dress.price, dress.in_stock) == ("Red dress", 9.5, True)
    assert dress.image_sha256 == digest(WHOLE)
    assert (dress.is_active, dress.first_seen, dress.snapshot_date, dress.inactive_since) == (True, FIRST, FIRST, None)


def test_bytes_are_kept_once_however_many_items_show_them(nights):
    state = nights["first"]
    assert state.items["P1"].image_sha256 == state.items["P3"].image_sha256
    assert sum(bytes(image.content) == WHOLE for image in state.images) == 1
    assert len({image.content_sha256 for image in state.images}) == len(state.images) == 4


def test_what_is_missing_broken_listed_twice_or_not_understood_is_flagged_and_its_item_kept(nights):
    state = nights["first"]
    assert [reason for source, _, reason in state.reasons if source == "catalog_flags"] == [
        "in_stock_not_boolean",
        "photo_listed_twice",
        "photo_not_found",
        "photo_not_found",
        "photo_truncated",
    ]
    assert any("photo_not_found 2" in note for note in state.record.notes)
    assert state.items["P11"].image_sha256 is None and state.items["P14"].image_sha256 is None
    assert state.items["P13"].image_sha256 is not None
    (broken,) = (image for image in state.images if not image.readable)
    assert (bytes(broken.content), broken.unreadable_reason, broken.width) == (TRUNCATED, "truncated", None)
    assert (state.items["P12"].image_sha256, state.items["P12"].in_stock) == (broken.content_sha256, None)


def test_the_same_snapshot_again_writes_no_version_and_reads_no_photo(nights):
    again = nights["first again"]
    assert (again.record.verdict, again.record.figures["photos_read"]) == ("unchanged", 0)
    assert again.versions == nights["first"].versions


def test_a_later_snapshot_without_a_change_touches_no_item(nights):
    later = nights["back again a day later"]
    assert later.record.verdict == "unchanged"
    assert later.versions["items"] == nights["back"].versions["items"]
    assert later.versions["item_images"] == nights["back"].versions["item_images"]


def test_the_next_snapshot_changes_exactly_what_differs(nights):
    record, after = nights["changed"].record, nights["changed"].items
    kinds = ("new", "content", "details", "departed", "returned", "retitled", "rephotographed", "lost_photo")
    assert [record.figures[f"items_{kind}"] for kind in kinds] == [1, 2, 2, 1, 0, 1, 1, 0]
    changed = {number for number, row in after.items() if row.snapshot_date == SECOND}
    assert changed == {"P1", "P2", "P3", "P5", "P9", "P10"}
    assert after["P2"].image_sha256 == digest(LARGE)
    assert (after["P3"].price, after["P5"].in_stock) == (1.0, False)
    assert after["P1"].first_seen == FIRST


def test_the_content_hash_covers_title_and_photo_and_neither_price_nor_stock(nights):
    before, after = nights["first"].items, nights["changed"].items
    assert {number for number in before if before[number].content_hash != after[number].content_hash} == {"P1", "P2"}


def test_an_item_that_the_snapshot_lacks_becomes_inactive(nights):
    row = nights["changed"].items["P9"]
    assert (row.is_active, row.inactive_since, row.snapshot_date) == (False, SECOND, SECOND)


def test_an_item_that_comes_back_is_active_again_since_its_first_day(nights):
    row = nights["back"].items["P9"]
    assert (row.is_active, row.inactive_since, row.first_seen, row.snapshot_date) == (True, None, FIRST, THIRD)
    assert nights["back"].record.figures["items_returned"] == 1


def test_an_item_whose_row_is_refused_keeps_its_last_accepted_state(nights):
    state = nights["changed"]
    assert ("catalog", 2, "empty_title") in state.reasons
    assert (state.record.rows_in, state.record.rows_out, state.record.rows_rejected) == (13, 12, 1)
    assert (state.items["P4"].title, state.items["P4"].is_active) == ("Sock", True)


def test_an_older_snapshot_does_not_undo_a_newer_one_even_if_that_changed_nothing(nights):
    state, before = nights["older"], nights["back again a day later"]
    assert state.record.verdict == "unchanged"
    assert "the lake has the snapshot of 2026-11-04 already" in state.record.notes[-1]
    assert state.items == before.items
    refused = [reason for source, day, reason in state.reasons if (source, day) == ("catalog", 3)]
    assert refused == ["null_item_id"], "dated records are replaced all the same"


def test_a_snapshot_that_lacks_too_many_items_is_refused_with_the_counts(nights):
    state = nights["half"]
    assert state.record.verdict == "failed"
    assert "lacks 7 of the 14 active items, more than the 20%" in state.record.notes[-1]
    assert state.versions == nights["older"].versions
    allowed = nights["half allowed"]
    assert (allowed.record.verdict, allowed.record.figures["items_departed"]) == ("succeeded", 7)


def test_a_photo_store_that_lost_its_photos_is_refused_with_the_counts(nights):
    state = nights["no photos"]
    assert state.record.verdict == "failed"
    assert "no MAKE_IMAGES: 5 of 5 items with a photo would lose it" in state.record.notes[-1]
    assert state.versions == nights["older"].versions


def test_a_photo_whose_file_was_touched_but_not_changed_embeds_nothing(run_job, spark, lake, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").write_bytes(WHOLE)
    spark.createDataFrame([product(1, photo="1.jpg")], CATALOG).write.parquet(str(tmp_path / "catalog.parquet"))
    options = {"catalog": str(tmp_path / "catalog.parquet"), "images": str(tmp_path / "images")}
    run_job(ingest, date=FIRST, **options)
    before = lake.read(ITEMS).first()
    os.utime(tmp_path / "images" / "1.jpg", (1, 1))
    record, after = run_job(ingest, date=SECOND, **options), lake.read(ITEMS).first()
    assert (record.figures["photos_read"], record.figures["items_details"]) == (1, 1)
    assert after.image_etag != before.image_etag
    assert (after.content_hash, after.image_sha256) == (before.content_hash, before.image_sha256)
    assert lake.read(ITEM_IMAGES).count() == 1


def test_a_source_that_cannot_be_read_fails_with_one_clear_line(run_job, tmp_path):
    record = run_job(ingest, date=FIRST, catalog=str(tmp_path / "nowhere.parquet"))
    assert record.verdict == "failed"
    assert "nowhere.parquet: nothing is there" in record.notes[-1]


@pytest.mark.slow
def test_the_real_catalog_is_ingested_whole_and_again_without_a_version(fashion, run_job, lake):
    options = {"catalog": str(fashion / "catalog.parquet"), "images": str(fashion / "images.parquet")}
    record = run_job(ingest, date=FIRST, **options)
    assert (record.rows_in, record.rows_out + record.rows_rejected) == (44_072, 44_072)
    assert lake.read(ITEMS).where("image_sha256 IS NOT NULL").count() == record.figures["photos_read"] == 43_392
    broken = lake.read(REJECTED_ROWS).where(F.col("source") == ingest.FLAGGED).count()
    assert broken == pytest.approx(0.007 * 43_392, rel=0.15), "7 in 1,000 are truncated, its README says"
    before = lake.versions(ITEMS, ITEM_IMAGES, REJECTED_ROWS)
    assert run_job(ingest, date=SECOND, **options).verdict == "unchanged"
    after = lake.versions(ITEMS, ITEM_IMAGES)
    assert all(after[table] == before[table] for table in after)
