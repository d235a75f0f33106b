"""A lake of an older release is refused by name, and migrated without touching a row."""

import datetime as dt
from dataclasses import replace

import pytest
from pyspark.sql import functions as F

from jobs.operations import migrate as job
from schemas import ALL_TABLES, ITEMS, JOB_RUNS, MODELS
from schemas.table import STRING, Column, SchemaMismatchError

DAY = dt.date(2026, 11, 1)

# As an older release may have declared them.
OLD_ITEMS = replace(
    ITEMS,
    comment="The catalog.",
    columns=tuple(
        replace(column, comment="An older word.") if column.name == "price" else column
        for column in ITEMS.columns
        if column.name != "in_stock"
    ),
    checks={"title_not_empty": "title != ''", "forgotten": "price >= 0"},
    properties={},
)
OLD_MODELS = replace(MODELS, columns=tuple(c for c in MODELS.columns if c.name != "promotion_reason"))


@pytest.fixture
def old_lake(lake, spark):
    """Two tables as an older release left them, an item in one, and all others as they are declared."""
    for table in (OLD_ITEMS, OLD_MODELS):
        table.create(spark, lake.table_uri(table))
    row = ("a", "red dress", None, 9.5, None, None, None, "hash", True, DAY, None, DAY)
    spark.createDataFrame([row], OLD_ITEMS.schema).write.format("delta").mode("append").save(lake.table_uri(ITEMS))
    for table in ALL_TABLES:
        if table not in (ITEMS, MODELS):
            lake.delta(table)
    return lake


def test_jobs_refuse_what_was_not_migrated_and_take_it_afterwards(old_lake, spark, run_job):
    with pytest.raises(SchemaMismatchError, match=r"(?s)delta\.enableChangeDataFeed is missing.*operations migrate"):
        old_lake.delta(ITEMS)
    with pytest.raises(SchemaMismatchError, match="column promotion_reason is missing"):
        old_lake.delta(MODELS)
    rows = spark.read.format("delta").load(old_lake.table_uri(ITEMS)).collect()
    record = run_job(job)
    assert (record["verdict"], record["rows_in"], record["rows_out"]) == ("succeeded", len(ALL_TABLES), 2)
    for table in ALL_TABLES:
        assert table.differences(spark, old_lake.table_uri(table)) == []
    assert old_lake.read(ITEMS).collect() == [(*row, None) for row in rows], "in_stock stands last, and nobody said it"
    assert any(
        note.startswith("items: constraint title_not_empty is title != '', declared") for note in record["notes"]
    )
    with pytest.raises(Exception, match="title_not_empty"):
        old_lake.delta(ITEMS).update(set={"title": F.lit("")})
    assert run_job(job)["verdict"] == "unchanged"


def test_what_cannot_be_changed_in_place_is_named_and_the_rest_is_migrated(old_lake, spark, run_job):
    spark.sql(f"ALTER TABLE delta.`{old_lake.table_uri(MODELS)}` ADD COLUMNS (colour STRING)")
    record = run_job(job)
    assert record["verdict"] == "failed"
    assert "table models at" in record["notes"][-1]
    assert "column colour is not declared. Move it aside" in record["notes"][-1]
    assert ITEMS.differences(spark, old_lake.table_uri(ITEMS)) == []
    missing = [difference.text for difference in MODELS.differences(spark, old_lake.table_uri(MODELS))]
    assert "column promotion_reason is missing" in missing


def test_a_column_that_every_row_must_have_cannot_be_added_to_rows_that_lack_it(lake, spark):
    lake.delta(JOB_RUNS)
    stricter = replace(JOB_RUNS, columns=(*JOB_RUNS.columns, Column("colour", STRING, "Any.", nullable=False)))
    with pytest.raises(SchemaMismatchError, match="cannot be brought to its declaration: column colour is missing"):
        stricter.migrate(spark, lake.table_uri(JOB_RUNS))
