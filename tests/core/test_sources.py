"""Sources of any format give the same rows, and a bad line costs only itself."""

import datetime as dt

import pandas as pd
import pytest
from pyspark.sql.types import DoubleType, LongType, StringType

from jobs.core.sources import MALFORMED, SourceError, identifier_of, read_source, timestamp_of

ROWS = pd.DataFrame({"item_id": ["a", "b"], "title": ['red "A-line" dress, long', "礼服"], "extra": [1, 2]})


def write(folder, kind: str) -> str:
    path = str(folder / f"source.{kind}")
    if kind == "parquet":
        ROWS.to_parquet(path)
    elif kind in ("csv", "csv.gz"):
        ROWS.to_csv(path, index=False)
    else:
        ROWS.to_json(path, orient="records", lines=True)
    return path


@pytest.mark.parametrize("kind", ["parquet", "csv", "csv.gz", "jsonl"])
def test_every_format_gives_the_same_rows(spark, tmp_path, kind):
    rows = read_source(spark, write(tmp_path, kind), required=["item_id", "title"], optional=["price"])
    assert rows.columns == ["item_id", "title", "price", MALFORMED]
    assert sorted(map(tuple, rows.collect())) == [(*row, None, None) for row in ROWS[["item_id", "title"]].values]


def test_a_delta_table_and_a_folder_of_files_are_sources_too(spark, tmp_path):
    spark.createDataFrame(ROWS).write.format("delta").save(str(tmp_path / "delta"))
    spark.createDataFrame(ROWS).write.parquet(str(tmp_path / "folder"))
    for name in ("delta", "folder"):
        assert read_source(spark, str(tmp_path / name), required=["item_id"]).count() == 2


def test_a_line_that_is_not_json_is_kept_as_text(spark, tmp_path):
    (tmp_path / "log.jsonl").write_text('{"item_id": 7}\n{"item_id": oops\n')
    rows = read_source(spark, str(tmp_path / "log.jsonl"), required=["item_id"]).collect()
    assert [tuple(row) for row in rows] == [("7", None), (None, '{"item_id": oops')]


def test_csv_lines_of_too_many_or_too_few_cells_are_kept_as_text_beside_the_good_ones(spark, tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title,price\n1,red dress,9\n2,red, blue,9\n3\n")
    rows = read_source(spark, str(tmp_path / "items.csv"), required=["item_id", "title"]).collect()
    assert [row[MALFORMED] for row in rows] == [None, "2,red, blue,9", "3"]
    assert (rows[0]["item_id"], rows[0]["title"]) == ("1", "red dress")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("absent.csv", "nothing is there"), ("notes.txt", "got .*txt"), ("items.csv", r"lacks \['title'\]")],
)
def test_a_source_that_cannot_be_read_is_refused_with_what_was_expected(spark, tmp_path, name, complaint):
    if not name.startswith("absent"):
        (tmp_path / name).write_text("item_id\na\n")
    with pytest.raises(SourceError, match=complaint):
        read_source(spark, str(tmp_path / name), required=["item_id", "title"])


@pytest.mark.parametrize("scale", [1, 1_000, 1_000_000, 1_000_000_000])
def test_whole_numbers_are_read_as_the_unit_that_their_size_tells(spark, scale):
    moment = dt.datetime(2026, 11, 14, 12, tzinfo=dt.UTC)
    rows = spark.createDataFrame([(int(moment.timestamp()) * scale,)], "ts bigint")
    read = rows.select(timestamp_of("ts", LongType()).cast("bigint")).first()[0]
    assert read == int(moment.timestamp())


def test_text_is_a_timestamp_where_it_can_be_and_null_elsewhere(spark):
    rows = spark.createDataFrame([("2026-11-14T12:00:00+08:00",), ("yesterday",), (None,)], "ts string")
    read = [row[0] for row in rows.select(timestamp_of("ts", StringType()).cast("string")).collect()]
    assert read == ["2026-11-14 04:00:00", None, None]


def test_identifiers_of_any_type_are_trimmed_text(spark):
    floats = spark.createDataFrame([(12.0,), (None,), (1.5,)], "id double")
    assert [r[0] for r in floats.select(identifier_of("id", DoubleType())).collect()] == ["12", None, "1.5"]
    texts = spark.createDataFrame([(" a ",), ("  ",)], "id string")
    assert [r[0] for r in texts.select(identifier_of("id", StringType())).collect()] == ["a", None]
