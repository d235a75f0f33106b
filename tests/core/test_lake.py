"""Writes to the lake change what changed, and nothing else."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from jobs.core.errors import JobError
from jobs.core.frames import settings
from jobs.core.lake import Lake
from schemas import ALL_TABLES, ITEM_EMBEDDINGS, ITEMS, QUERY_EVENTS, REJECTED_ROWS
from schemas.table import STRING, Column, SchemaMismatchError, Table

DAY = dt.date(2026, 11, 1)


def item(item_id: str, title: str, date: dt.date = DAY) -> tuple:
    return (item_id, title, None, None, None, None, None, None, title, True, DAY, None, date)


def items(spark, *rows: tuple):
    return spark.createDataFrame(list(rows), ITEMS.schema)


def event(event_id: str, date: dt.date, query: str = "red dress") -> tuple:
    return (event_id, date, dt.datetime(date.year, date.month, date.day), "s", query, "a", "click", 1)


def test_every_declared_table_can_be_created_and_verifies(lake, spark):
    for table in ALL_TABLES:
        lake.delta(table)
        table.verify(spark, lake.table_uri(table))
        assert lake.version(table) == 0


def test_runs_that_create_a_table_at_once_all_get_it(spark, tmp_path):
    lakes = [Lake(spark, str(tmp_path / "lake")) for _ in range(4)]
    with ThreadPoolExecutor(len(lakes)) as pool:
        assert [rows.count() for rows in pool.map(lambda lake: lake.read(ITEMS), lakes)] == [0] * len(lakes)
    assert lakes[0].version(ITEMS) == 0


def test_a_table_that_cannot_be_created_is_an_error(lake, monkeypatch):
    monkeypatch.setattr("jobs.core.lake._CREATE_PAUSE_S", 0.0)
    place = Path(lake.path("tables", ITEMS.name))
    place.mkdir(parents=True)
    (place / "part.parquet").write_text("a file of no table")
    with pytest.raises(PySparkException, match="is not a Delta table"):
        lake.delta(ITEMS)


def test_a_lake_that_spark_has_no_client_for_is_refused_with_what_to_do(spark):
    with pytest.raises(JobError, match=r"^memory://lake: Spark has no client for memory:// .* `make s3`"):
        Lake(spark, "memory://lake")


def test_commits_are_lost_on_s3_unless_a_log_store_for_several_drivers_is_set(spark, lake):
    hadoop = spark._jsc.hadoopConfiguration()
    hadoop.set("fs.s3a.impl", "org.apache.hadoop.fs.LocalFileSystem")  # any client: none is asked for anything
    in_s3 = Lake(spark, "s3a://bucket/lake")
    hadoop.unset("fs.s3a.impl")
    assert (in_s3.loses_commits, lake.loses_commits) == (True, False)
    with settings(spark, {"spark.delta.logStore.s3a.impl": "io.delta.storage.S3DynamoDBLogStore"}):
        assert not in_s3.loses_commits


def test_a_table_that_differs_from_its_declaration_is_refused_by_name(lake, spark):
    lake.delta(ITEMS)
    other = Table(name=ITEMS.name, comment="", columns=(*ITEMS.columns, Column("colour", STRING, "")), key=ITEMS.key)
    with pytest.raises(SchemaMismatchError, match="column colour is missing"):
        other.verify(spark, lake.table_uri(ITEMS))


def test_merge_inserts_updates_and_then_writes_no_version(lake, spark):
    first = lake.merge(ITEMS, items(spark, item("a", "red"), item("b", "blue")))
    assert (first.inserted, first.updated) == (2, 0)
    second = lake.merge(ITEMS, items(spark, item("a", "red"), item("b", "navy"), item("c", "green")))
    assert (second.inserted, second.updated) == (1, 1)
    version = lake.version(ITEMS)
    third = lake.merge(ITEMS, items(spark, item("a", "red"), item("b", "navy")))
    assert third.changed == 0
    assert lake.version(ITEMS) == version
    titles = {r["item_id"]: r["title"] for r in lake.read(ITEMS).collect()}
    assert titles == {"a": "red", "b": "navy", "c": "green"}


def test_a_guard_keeps_an_older_row_from_undoing_a_newer_one(lake, spark):
    guard = F.col("s.snapshot_date") >= F.col("t.snapshot_date")
    lake.merge(ITEMS, items(spark, item("a", "new", DAY + dt.timedelta(days=1))), when=guard)
    version = lake.version(ITEMS)
    assert lake.merge(ITEMS, items(spark, item("a", "old", DAY)), when=guard).changed == 0
    assert lake.version(ITEMS) == version


def test_replace_rewrites_only_its_slice_and_skips_equal_content(lake, spark):
    def replace(day: dt.date, *ids: str) -> bool:
        rows = spark.createDataFrame([event(i, day) for i in ids], QUERY_EVENTS.schema)
        return lake.replace(QUERY_EVENTS, rows, F.col("event_date") == F.lit(day))

    next_day = DAY + dt.timedelta(days=1)
    assert replace(DAY, "1", "2")
    assert replace(next_day, "3")
    version = lake.version(QUERY_EVENTS)
    assert not replace(DAY, "2", "1")
    assert lake.version(QUERY_EVENTS) == version
    assert replace(DAY, "4")
    assert {r["event_id"] for r in lake.read(QUERY_EVENTS).collect()} == {"3", "4"}


def test_rejected_rows_of_a_run_are_replaced_by_the_next_run_for_that_date(lake, spark):
    rows = spark.createDataFrame([("empty_title", '{"item_id": "a"}')], "reason string, row string")
    assert lake.reject(rows, source="catalog", logical_date=DAY) == 1
    assert lake.reject(rows, source="catalog", logical_date=DAY) == 1
    assert lake.reject(rows.limit(0), source="query_log", logical_date=DAY) == 0
    assert lake.read(REJECTED_ROWS).count() == 1


def test_a_vector_that_is_not_unit_norm_is_refused_by_the_table(lake, spark):
    row = ("a", "m", "h", [3.0, 4.0], 1.0, 0.0, 0.0, "missing", "run")
    with pytest.raises(Exception, match="unit_norm"):
        lake.merge(ITEM_EMBEDDINGS, spark.createDataFrame([row], ITEM_EMBEDDINGS.schema))


def test_many_vectors_of_one_model_are_written_by_several_tasks_and_few_by_one(lake, spark):
    def files_after_merge(items: range, bin_size: str) -> int:
        rows = spark.range(items.start, items.stop, numPartitions=4).selectExpr(
            "CAST(id AS STRING) AS item_id", "'m' AS model_version", "'h' AS content_hash",
            "array(CAST(cos(id) AS FLOAT), CAST(sin(id) AS FLOAT)) AS embedding",
            "1F AS title_weight", "0F AS image_weight", "0F AS photo_effect",
            "'missing' AS image_status", "'r' AS run_id",
        )  # fmt: skip
        spark.conf.set("spark.databricks.delta.optimizeWrite.binSize", bin_size)
        try:
            lake.merge(ITEM_EMBEDDINGS, rows, within={"model_version": "m"})
        finally:
            spark.conf.set("spark.databricks.delta.optimizeWrite.binSize", "16m")
        return len(lake.read(ITEM_EMBEDDINGS).inputFiles())

    assert files_after_merge(range(1_000), "16m") == 1
    assert files_after_merge(range(1_000, 3_000), "4k") > 2


def test_folders_are_uploaded_and_found_again(lake, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    lake.upload(folder, "models", "make-1")
    assert (lake.local_dir("models", "make-1") / "config.json").read_text() == "{}"
    with pytest.raises(FileNotFoundError, match="models/make-2"):
        lake.local_dir("models", "make-2")
