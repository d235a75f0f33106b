"""Rows of a snapshot: which are accepted, which are refused and why, whatever the source looks like."""

import datetime as dt
import json
from decimal import Decimal

import pytest
from pyspark.sql import functions as F

from jobs.catalog.snapshot import OPTIONAL, check_rows, read_snapshot
from jobs.core.job import JobError
from jobs.core.sources import MALFORMED

COLUMNS = (
    "item_id string, title string, category string, price double, in_stock boolean, image_uri string, "
    "updated_at timestamp"
)


@pytest.fixture
def check(spark):
    """What `check_rows` makes of rows that came without a format of their own."""

    def checked(rows, schema=COLUMNS):
        snapshot = spark.createDataFrame(rows, schema)
        absent = {name: F.lit(None).cast("string") for name in (*OPTIONAL, MALFORMED) if name not in snapshot.columns}
        return check_rows(snapshot.withColumns(absent)).collect()

    return checked


def row(item_id="P1", title="Red dress", category="Dress", price=9.5, in_stock=True, image_uri="1.jpg", day=1):
    return (item_id, title, category, price, in_stock, image_uri, dt.datetime(2026, 11, day))


def test_every_row_is_either_accepted_or_refused_with_its_reason(check):
    no_titles = [row("P2", title=None), row("P3", title=" \u3000\u00a0\t")]
    rows = check([row("P1"), row(None), row("  "), *no_titles, row("P4")])
    assert [(r.item_id, r.reason) for r in sorted(rows, key=lambda r: (r.reason or "", r.item_id or ""))] == [
        ("P1", None),
        ("P4", None),
        ("P2", "empty_title"),
        ("P3", "empty_title"),
        (None, "null_item_id"),
        (None, "null_item_id"),
    ]


def test_a_refused_row_is_recorded_as_it_came(check):
    (refused,) = check([row("P1", title="  ", price=3.0, in_stock=False)])
    assert json.loads(refused.row) == {
        "item_id": "P1",
        "title": "  ",
        "category": "Dress",
        "price": 3.0,
        "in_stock": False,
        "image_uri": "1.jpg",
        "updated_at": "2026-11-01T00:00:00.000Z",
    }


def test_of_duplicate_ids_the_newest_row_is_kept_whatever_their_order(check):
    rows = [row(title="old", day=1), row(title="new", day=3), row(title="older still", day=2), row("P2")]
    for order in (rows, rows[::-1]):
        checked = check(order)
        assert {r.title for r in checked if r.reason is None} == {"new", "Red dress"}
        assert sorted(r.title for r in checked if r.reason == "duplicate_item_id") == ["old", "older still"]


def test_a_duplicate_with_an_empty_title_does_not_displace_the_good_row(check):
    checked = check([row(title="good", day=1), row(title="", day=2)])
    assert {r.title: r.reason for r in checked} == {"": "empty_title", "good": None}


def test_spaces_around_ids_and_texts_are_trimmed(check):
    (checked,) = check([row(" P1 ", title="\u3000 Red dress\u00a0", image_uri=" 1.jpg ")])
    assert (checked.item_id, checked.title, checked.image_uri) == ("P1", "Red dress", "1.jpg")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("string", "A-7", "A-7"),
        ("int", 7, "7"),
        ("bigint", 2**53 + 1, "9007199254740993"),
        ("decimal(20,0)", Decimal(12345678901234567890), "12345678901234567890"),
        ("double", 7.0, "7"),
        ("double", 7.5, "7.5"),
        ("boolean", True, "true"),
        ("date", dt.date(2026, 1, 2), "2026-01-02"),
        ("binary", b"A-7", "A-7"),
    ],
)
def test_an_id_of_any_scalar_type_becomes_text(check, kind, value, expected):
    (checked,) = check([(value, "Red dress")], f"item_id {kind}, title string")
    assert (checked.item_id, checked.reason) == (expected, None)


@pytest.mark.parametrize(
    ("kind", "value"), [("double", float("nan")), ("float", float("inf")), ("binary", b"\xff\xfe")]
)
def test_an_id_that_is_no_text_is_refused(check, kind, value):
    (checked,) = check([(value, "Red dress")], f"item_id {kind}, title string")
    assert (checked.item_id, checked.reason) == (None, "item_id_not_text")


def test_ids_of_a_compound_type_are_refused_as_a_whole(spark, tmp_path):
    rows = spark.createDataFrame([([1], "Red dress")], "item_id array<int>, title string")
    rows.write.parquet(str(tmp_path / "catalog"))
    with pytest.raises(JobError, match=r"item_id is array<int>; expected a scalar"):
        read_snapshot(spark, str(tmp_path / "catalog"))


def test_columns_that_the_model_does_not_need_may_be_absent(spark, tmp_path):
    rows = spark.createDataFrame([("P1", "Red dress")], "item_id string, title string")
    rows.write.parquet(str(tmp_path / "catalog"))
    (checked,) = check_rows(read_snapshot(spark, str(tmp_path / "catalog"))).collect()
    optional = (checked.category, checked.price, checked.in_stock, checked.image_uri)
    assert (optional, checked.flags, checked.reason) == ((None,) * 4, [], None)


@pytest.mark.parametrize("price", ["nine", "NaN", "Infinity", "1,5"])
def test_a_price_that_is_no_number_is_flagged_and_its_row_accepted(check, price):
    (checked,) = check([("P1", "Red dress", price)], "item_id string, title string, price string")
    assert (checked.price, checked.flags, checked.reason) == (None, ["price_not_a_number"], None)


@pytest.mark.parametrize(
    ("kind", "yes_and_no"),
    [
        ("boolean", [True, False]),
        ("int", [1, 0]),
        ("double", [1.0, 0.0]),
        ("string", ["true", "FALSE", " Yes ", "no", "1", "0", "1.0", "0.0"]),
    ],
)
def test_stock_is_understood_in_the_forms_that_catalogs_have_for_it(check, kind, yes_and_no):
    rows = [(place, "Red dress", value) for place, value in enumerate([*yes_and_no, None])]
    checked = sorted(check(rows, f"item_id int, title string, in_stock {kind}"), key=lambda r: r.item_id)
    assert [r.in_stock for r in checked] == [True, False] * (len(yes_and_no) // 2) + [None]
    assert not any(r.flags for r in checked)


@pytest.mark.parametrize("in_stock", ["maybe", "", "2", "0.5", "NaN"])
def test_stock_that_is_neither_yes_nor_no_is_flagged_and_its_row_accepted(check, in_stock):
    (checked,) = check([("P1", "Red dress", in_stock)], "item_id string, title string, in_stock string")
    assert (checked.in_stock, checked.flags, checked.reason) == (None, ["in_stock_not_boolean"], None)


def test_everything_that_is_amiss_with_a_row_is_flagged(check):
    columns = "item_id string, title string, price string, in_stock string"
    (checked,) = check([("P1", "Red dress", "nine", "maybe")], columns)
    assert checked.flags == ["price_not_a_number", "in_stock_not_boolean"]


def test_a_timestamp_in_nanoseconds_as_pandas_writes_it_is_read(spark, tmp_path):
    import pandas as pd

    path = str(tmp_path / "catalog.parquet")
    updated = pd.to_datetime(["2026-11-01", "2026-11-02"]).astype("datetime64[ns]")
    pd.DataFrame({"item_id": ["P1", "P1"], "title": ["old", "new"], "updated_at": updated}).to_parquet(path)
    kept = [r.title for r in check_rows(read_snapshot(spark, path)).collect() if r.reason is None]
    assert kept == ["new"]


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "delta"])
def test_every_format_gives_the_same_rows(spark, tmp_path, kind):
    rows = spark.createDataFrame([row("1", title='5" heel, "red"'), row("2", title="连衣裙"), row(None)], COLUMNS)
    path = str(tmp_path / f"catalog.{kind}")
    spark_format = {"jsonl": "json"}.get(kind, kind)
    options = {"header": True, "escape": '"'} if kind == "csv" else {}
    rows.coalesce(1).write.format(spark_format).options(**options).save(path)
    if kind == "jsonl":
        (part,) = (tmp_path / "catalog.jsonl").glob("part-*.json")
        path = str(part.rename(tmp_path / "rows.jsonl"))
    checked = check_rows(read_snapshot(spark, path)).orderBy("item_id").collect()
    assert [(r.item_id, r.title, r.category, r.price, r.in_stock, r.image_uri, r.reason) for r in checked] == [
        (None, "Red dress", "Dress", 9.5, True, "1.jpg", "null_item_id"),
        ("1", '5" heel, "red"', "Dress", 9.5, True, "1.jpg", None),
        ("2", "连衣裙", "Dress", 9.5, True, "1.jpg", None),
    ]


def test_a_line_that_is_not_json_is_refused_with_its_text(spark, tmp_path):
    path = tmp_path / "catalog.jsonl"
    path.write_text('{"item_id": 1, "title": "Red dress"}\n{"item_id": 2, "title": \n')
    checked = check_rows(read_snapshot(spark, str(path))).orderBy("reason").collect()
    assert [(r.item_id, r.reason) for r in checked] == [("1", None), (None, "malformed_line")]
    assert checked[1].row == '{"item_id": 2, "title": '
