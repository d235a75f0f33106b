"""The lake's tables and views are there by name, show what is in the lake, and cannot change it."""

import datetime as dt

import pytest
from pyspark.errors import PySparkException

from jobs.sql.definitions import Definitions
from schemas import (
    DUPLICATE_ITEMS,
    INDEX_BUILDS,
    ITEM_EMBEDDINGS,
    ITEMS,
    JOB_RUNS,
    QUERY_NEIGHBOURS,
    REJECTED_ROWS,
)

DAY = dt.date(2026, 11, 1)
NOON = dt.datetime(2026, 11, 1, 12)
MODEL = "make-20261101-00000000"


def put(lake, spark, table, *rows):
    lake.append(table, spark.createDataFrame(list(rows), table.schema))


def item(item_id, category="dress", *, active=True, photo=None):
    content, gone = f"hash {item_id}", None if active else DAY
    return (item_id, f"item {item_id}", category, 1.0, None, None, None, photo, content, active, DAY, gone, DAY)


def vector(item_id, image_weight, *, content_hash=None, model=MODEL, status="ok"):
    content = content_hash or f"hash {item_id}"
    return (item_id, model, content, [1.0, 0.0], 1 - image_weight, image_weight, 0.5, status, "r")


def build(
    build_id,
    status="published",
    gates=(("recall", 0.99, 0.95, True, True, None), ("churn", 0.3, 0.2, False, False, None)),
):
    published_at = NOON if status == "published" else None
    return (
        build_id,
        DAY,
        MODEL,
        3,
        2,
        1,
        "Flat",
        {"items": 1},
        gates and list(gates),
        status,
        None,
        NOON,
        published_at,
    )


def run(job, *, minute, verdict="succeeded", date=DAY):
    started = NOON + dt.timedelta(minutes=minute)
    finished = started + dt.timedelta(seconds=10)
    return (f"r{minute}", job, date, "{}", started, finished, 5, 4, 1, {"startup": 4.0}, {}, verdict, [])


def test_an_empty_lake_stays_empty_and_says_what_is_absent(lake, enter_lake):
    known = enter_lake()
    assert known.tables == known.views == []
    assert set(known.absent) >= {"items", "item_embeddings", "job_runs"}
    assert not lake.fs.exists(lake.path("tables"))


def test_a_table_comes_by_name_with_the_comments_of_its_declaration(lake, spark, enter_lake):
    put(lake, spark, ITEMS, item("a"))
    assert enter_lake().tables == ["items"]
    assert [row["item_id"] for row in spark.sql("SELECT item_id FROM items").collect()] == ["a"]
    comments = {row["col_name"]: row["comment"] for row in spark.sql("DESCRIBE items").collect()}
    assert comments == {column.name: column.comment for column in ITEMS.columns}


def test_a_table_shows_what_was_written_after_it_was_registered(lake, spark, enter_lake):
    put(lake, spark, ITEMS, item("a"))
    enter_lake()
    put(lake, spark, ITEMS, item("b"))
    assert spark.sql("SELECT * FROM items").count() == 2


def test_registering_again_finds_tables_that_came_since(lake, spark, enter_lake):
    enter_lake()
    put(lake, spark, REJECTED_ROWS, ("catalog", DAY, "null_id", "{}"))
    known = enter_lake()
    assert (known.tables, known.views) == (["rejected_rows"], ["rejections_by_reason"])


def test_what_is_there_as_it_should_be_is_not_written_again(lake, spark, enter_lake, monkeypatch):
    put(lake, spark, REJECTED_ROWS, ("catalog", DAY, "null_id", "{}"))
    enter_lake()
    written = []
    put_anyway = Definitions._put
    monkeypatch.setattr(Definitions, "_put", lambda self, create: [written.append(create), put_anyway(self, create)])
    enter_lake()
    assert not written
    spark.sql("CREATE OR REPLACE VIEW make.rejections_by_reason AS SELECT 1 AS x")
    spark.sql("CREATE OR REPLACE FUNCTION make.vector_norm(v ARRAY<FLOAT>) RETURNS FLOAT RETURN 1F")
    enter_lake()
    assert len(written) == 2
    assert spark.sql("SELECT reason, rows FROM rejections_by_reason").first()["reason"] == "null_id"
    assert spark.sql("SELECT vector_norm(array(3F, 4F))").first()[0] == 5.0


def test_a_statement_cannot_change_a_table_by_its_name(lake, spark, enter_lake):
    put(lake, spark, REJECTED_ROWS, ("catalog", DAY, "null_id", "{}"))
    enter_lake()
    version = lake.version(REJECTED_ROWS)
    for statement in ("DELETE FROM rejected_rows", "INSERT INTO rejected_rows SELECT * FROM rejected_rows"):
        with pytest.raises(PySparkException):
            spark.sql(statement)
    assert lake.version(REJECTED_ROWS) == version


def test_current_items_carry_the_published_models_vector_of_their_present_content(lake, spark, enter_lake):
    put(lake, spark, ITEMS, item("fresh"), item("stale"), item("gone", active=False), item("bare"))
    put(
        lake,
        spark,
        ITEM_EMBEDDINGS,
        vector("fresh", 0.25),
        vector("fresh", 0.5, model="another"),
        vector("stale", 0.5, content_hash="before the change"),
        vector("gone", 0.5),
    )
    put(lake, spark, INDEX_BUILDS, build("b1"), build("b0", "superseded"))
    enter_lake()
    rows = spark.sql("SELECT item_id, model_version, image_weight FROM current_items ORDER BY item_id").collect()
    assert [tuple(row) for row in rows] == [("bare", None, None), ("fresh", MODEL, 0.25), ("stale", None, None)]


def test_modal_weights_are_of_items_with_a_readable_photo(lake, spark, enter_lake):
    put(lake, spark, ITEMS, item("a"), item("b"), item("c", "hat"))
    put(lake, spark, ITEM_EMBEDDINGS, vector("a", 0.25), vector("b", 0.75), vector("c", 0.0, status="missing"))
    put(lake, spark, INDEX_BUILDS, build("b1"))
    enter_lake()
    rows = spark.sql("SELECT category, items, mean_image_weight FROM modal_weights_by_category").collect()
    assert [tuple(row) for row in rows] == [("dress", 2, 0.5)]


def test_nightly_runs_hold_the_newest_run_of_each_job_and_date(lake, spark, enter_lake):
    put(
        lake,
        spark,
        JOB_RUNS,
        run("index build", minute=0, verdict="failed"),
        run("index build", minute=5),
        run("index search", minute=6, date=None),
    )
    enter_lake()
    (row,) = spark.sql("SELECT job, verdict, wall_seconds, startup_seconds FROM nightly_runs").collect()
    assert tuple(row) == ("index build", "succeeded", 10.0, 4.0)


def test_rejections_are_counted_by_reason(lake, spark, enter_lake):
    put(lake, spark, REJECTED_ROWS, *[("catalog", DAY, reason, "{}") for reason in ("null_id", "robot", "robot")])
    enter_lake()
    rows = spark.sql("SELECT reason, rows FROM rejections_by_reason ORDER BY reason").collect()
    assert [tuple(row) for row in rows] == [("null_id", 1), ("robot", 2)]


def test_the_index_history_has_a_row_for_each_build_and_its_gates_side_by_side(lake, spark, enter_lake):
    gates = (("recall_at_10", 0.99, 0.95, True, True, None), ("drift", 0.3, 0.2, False, True, "moved"))
    put(lake, spark, INDEX_BUILDS, build("b1", gates=gates), build("b2", "built", gates=None))
    enter_lake()
    rows = spark.sql(
        "SELECT build_id, failed_gates, recall_at_10, drift, coverage FROM index_history ORDER BY build_id"
    )
    assert [tuple(row) for row in rows.collect()] == [("b1", ["drift"], 0.99, 0.3, None), ("b2", *[None] * 4)]
    rows = spark.sql("SELECT build_id, gate, figure, bound, passed, detail FROM index_gates ORDER BY gate").collect()
    assert [tuple(row) for row in rows] == [
        ("b1", "drift", 0.3, 0.2, False, "moved"),
        ("b1", "recall_at_10", 0.99, 0.95, True, None),
    ]


def test_duplicates_and_coverage_are_those_of_the_published_build(lake, spark, enter_lake):
    put(lake, spark, INDEX_BUILDS, build("b1", "superseded"), build("b2"))
    put(lake, spark, ITEMS, item("a"), item("b"), item("c"))
    put(lake, spark, DUPLICATE_ITEMS, ("b1", "c", 1, 0.99), ("b2", "a", 1, 0.98), ("b2", "b", 1, 0.98))
    put(lake, spark, QUERY_NEIGHBOURS, ("b1", "old", 9, "c", 0.9, None, True), ("b2", "hat", 5, "a", 0.25, None, False))
    enter_lake()
    rows = spark.sql("SELECT duplicate_group, item_id, title FROM near_duplicates ORDER BY item_id").collect()
    assert [tuple(row) for row in rows] == [(1, "a", "item a"), (1, "b", "item b")]
    rows = spark.sql("SELECT query, impressions, is_covered, score, title FROM query_coverage").collect()
    assert [tuple(row) for row in rows] == [("hat", 5, False, 0.25, "item a")]
