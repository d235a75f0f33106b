"""Vectors between inference and the table: Parquet chunks that survive the run that made them.

Inference is the dear part of a night, so its results are written as they come, under
`staging/embeddings/<model_version>/`, and found again by item and content, whichever run finishes the work.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from jobs.core.lake import Lake
from jobs.embedding.inference import ItemBatch

STAGED = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(pa.float32())),
        pa.field("title_weight", pa.float32()),
        pa.field("image_weight", pa.float32()),
        pa.field("photo_effect", pa.float32()),
        pa.field("image_status", pa.string()),
        pa.field("failure", pa.string()),
    ]
)
STAGED_DDL = (
    "item_id string, content_hash string, embedding array<float>, title_weight float, image_weight float, "
    "photo_effect float, image_status string, failure string"
)


def staging_parts(model_version: str) -> tuple[str, ...]:
    """The staging folder of a model, below the lake's root."""
    return ("staging", "embeddings", model_version)


def to_arrow(batch: ItemBatch) -> pa.Table:
    """A batch as staged rows; failed rows keep their reason and no vector."""
    failed = pa.array([reason is not None for reason in batch.failure])
    flat = pa.array(batch.embedding.reshape(-1))
    offsets = pa.array(range(0, flat.__len__() + 1, batch.embedding.shape[1]), pa.int32())
    vectors = pa.ListArray.from_arrays(offsets, flat)

    def where_embedded(values: pa.Array) -> pa.Array:
        return pa.compute.if_else(failed, pa.scalar(None, values.type), values)

    columns = [
        pa.array(batch.rows["item_id"], pa.string()),
        pa.array(batch.rows["content_hash"], pa.string()),
        where_embedded(vectors),
        where_embedded(pa.array(batch.title_weight, pa.float32())),
        where_embedded(pa.array(batch.image_weight, pa.float32())),
        where_embedded(pa.array(batch.photo_effect, pa.float32())),
        where_embedded(pa.array(batch.image_status, pa.string())),
        pa.array(batch.failure, pa.string()),
    ]
    return pa.table(columns, schema=STAGED)


def write_chunk(folder: str, batches: Iterable[pa.Table]) -> int:
    """Write one chunk under a temporary name, then give it its own: readers see whole chunks only.

    Args:
        folder: Staging folder as fsspec names it.
        batches: The chunk's rows.

    Returns:
        Number of rows.
    """
    chunk = pa.concat_tables(batches)
    fs, path = fsspec.core.url_to_fs(folder)
    name = f"chunk-{uuid.uuid4().hex}-{chunk.num_rows}.parquet"
    fs.makedirs(path, exist_ok=True)
    with fs.open(f"{path}/_{name}", "wb") as file:
        pq.write_table(chunk, file, compression="zstd")
    fs.mv(f"{path}/_{name}", f"{path}/{name}")
    return chunk.num_rows


def staged_rows(lake: Lake, model_version: str) -> int:
    """Rows staged so far, read from the chunks' names."""
    folder = lake.path(*staging_parts(model_version))
    if not lake.fs.isdir(folder):
        return 0
    chunks = lake.fs.glob(f"{folder}/chunk-*.parquet")
    return sum(int(name.rpartition("-")[2].removesuffix(".parquet")) for name in chunks)


def read_staged(spark: SparkSession, lake: Lake, model_version: str) -> DataFrame:
    """Every staged row of the model, once an item and content, from whichever run; a vector counts before a failure."""
    if staged_rows(lake, model_version) == 0:
        return spark.createDataFrame([], STAGED_DDL)
    folder = lake.uri(*staging_parts(model_version))
    staged = spark.read.schema(STAGED_DDL).parquet(f"{folder}/chunk-*.parquet")
    # A task that was run twice staged its rows twice; both came from the same content and model.
    key = ["item_id", "content_hash"]
    embedded = staged.where("failure IS NULL").dropDuplicates(key)
    failed = staged.where("failure IS NOT NULL").dropDuplicates(key)
    return embedded.unionByName(failed.join(embedded, on=key, how="left_anti"))


def remove_staged(lake: Lake, model_version: str) -> None:
    """Forget what was staged for the model; called when all of it is in the tables."""
    folder = lake.path(*staging_parts(model_version))
    if lake.fs.isdir(folder):
        lake.fs.rm(folder, recursive=True)
