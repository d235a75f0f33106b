"""The tables are plain Delta: delta-rs and polars read the rows that Spark reads, deletion vectors included."""

from pathlib import Path

import polars
from deltalake import DeltaTable, QueryBuilder
from pyspark.sql import functions as F

from schemas import ITEM_EMBEDDINGS, ITEMS
from tests.sql.test_register import item, put, vector


def test_delta_rs_and_polars_read_what_spark_reads(lake, spark):
    put(lake, spark, ITEMS, *(item(f"i{n:03d}", category="cd"[n % 2]) for n in range(200)))
    put(lake, spark, ITEM_EMBEDDINGS, *(vector(f"i{n:03d}", 0.25) for n in range(200)))
    gone = F.col("item_id").isin(*(f"i{n:03d}" for n in range(0, 200, 7)))
    for table in (ITEMS, ITEM_EMBEDDINGS):
        lake.delete(table, gone)
        folder = lake.path("tables", table.name)
        assert list(Path(folder).rglob("deletion_vector*.bin"))
        rows = sorted(lake.read(table).collect(), key=lambda row: row["item_id"])

        frame = polars.read_delta(folder).sort("item_id")
        assert frame.columns == table.column_names
        found = QueryBuilder().register("t", DeltaTable(folder)).execute("SELECT item_id FROM t ORDER BY item_id")
        assert polars.DataFrame(found)["item_id"].to_list() == [row["item_id"] for row in rows]
        assert frame.height == len(rows) == 171
        assert frame["item_id"].to_list() == [row["item_id"] for row in rows]
    assert frame["embedding"].to_list() == [row["embedding"] for row in rows]
