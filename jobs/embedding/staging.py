"""Vectors between inference and the table: Parquet chunks that survive the run that made them.

Inference is the dear part of a night, so its results are written as they come, under
`staging/embeddings/<model_version>/`, and found again by item and content, whichever run finishes the work.  Vectors
and failures lie in files of their own, whose names say how many rows they hold.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from enum import StrEnum

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.core.lake import Lake
from jobs.embedding.inference import ItemBatch


class Staged(StrEnum):
    """What a chunk holds, and how its file's name begins."""

    VECTORS = "vectors"
    FAILURES = "failures"


# What a staged row is found again by.
STAGED_KEY = ["item_id", "content_hash"]

_KEY = [pa.field(name, pa.string(), nullable=False) for name in STAGED_KEY]
_SCHEMAS = {
    Staged.VECTORS: pa.schema(
        [
            *_KEY,
            pa.field("embedding", pa.list_(pa.float32()), nullable=False),
            pa.field("title_weight", pa.float32(), nullable=False),
            pa.field("image_weight", pa.float32(), nullable=False),
            pa.field("photo_effect", pa.float32(), nullable=False),
            pa.field("image_status", pa.string(), nullable=False),
        ]
    ),
    Staged.FAILURES: pa.schema([*_KEY, pa.field("reason", pa.string(), nullable=False)]),
}


def staging_parts(model_version: str) -> tuple[str, ...]:
    """The staging folder of a model, below the lake's root."""
    return ("staging", "embeddings", model_version)


def write_chunk(folder: str, batches: Iterable[ItemBatch]) -> int:
    """Stage batches: a file of their vectors and one of their failures, where there are any.

    Args:
        folder: Staging folder as fsspec names it.
        batches: The chunk's rows.

    Returns:
        Number of rows.
    """
    fs, path = fsspec.core.url_to_fs(folder)
    fs.makedirs(path, exist_ok=True)
    vectors, failures = zip(*((_vectors(batch), _failures(batch)) for batch in batches), strict=True)
    return _write(fs, path, Staged.VECTORS, pa.concat_tables(vectors)) + _write(
        fs, path, Staged.FAILURES, pa.concat_tables(failures)
    )


def staged_rows(lake: Lake, model_version: str, *kinds: Staged) -> int:
    """Rows of those kinds that are staged, by default of any, read from the files' names."""
    files = [path for kind in kinds or Staged for path in _files(lake, model_version, kind)]
    return sum(int(path.rpartition("-")[2].removesuffix(".parquet")) for path in files)


def read_staged(spark: SparkSession, lake: Lake, model_version: str, kind: Staged) -> DataFrame:
    """Every staged row of a kind, once an item and content, from whichever run."""
    schema = from_arrow_schema(_SCHEMAS[kind])
    if not _files(lake, model_version, kind):
        return spark.createDataFrame([], schema)
    staged = spark.read.schema(schema).parquet(f"{lake.uri(*staging_parts(model_version))}/{kind}-*.parquet")
    # A task that was run twice staged its rows twice; both came from the same content and model.
    return staged.dropDuplicates(STAGED_KEY)


def remove_staged(lake: Lake, model_version: str) -> None:
    """Forget what was staged for the model; called when all of it is in the tables."""
    folder = lake.path(*staging_parts(model_version))
    if lake.fs.isdir(folder):
        lake.fs.rm(folder, recursive=True)


def remove_staged_failures(lake: Lake, model_version: str) -> None:
    """Forget what an earlier run could not embed; its cause may be mended since."""
    for file in _files(lake, model_version, Staged.FAILURES):
        lake.fs.rm(file)


def _files(lake: Lake, model_version: str, kind: Staged) -> list[str]:
    folder = lake.path(*staging_parts(model_version))
    return lake.fs.glob(f"{folder}/{kind}-*.parquet") if lake.fs.isdir(folder) else []


def _write(fs: AbstractFileSystem, folder: str, kind: Staged, rows: pa.Table) -> int:
    """Write one file under a temporary name, then give it its own: readers see whole files only."""
    if rows.num_rows:
        name = f"{kind}-{uuid.uuid4().hex}-{rows.num_rows}.parquet"
        with fs.open(f"{folder}/_{name}", "wb") as file:
            pq.write_table(rows, file, compression="zstd")
        fs.mv(f"{folder}/_{name}", f"{folder}/{name}")
    return rows.num_rows


def _vectors(batch: ItemBatch) -> pa.Table:
    embedded = np.array([reason is None for reason in batch.failure])
    vectors = batch.embedding[embedded]
    offsets = pa.array(np.arange(len(vectors) + 1, dtype=np.int32) * batch.embedding.shape[1])
    columns = [
        *(pa.array(batch.rows[name][embedded], pa.string()) for name in STAGED_KEY),
        pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1))),
        pa.array(batch.title_weight[embedded], pa.float32()),
        pa.array(batch.image_weight[embedded], pa.float32()),
        pa.array(batch.photo_effect[embedded], pa.float32()),
        pa.array(np.array(batch.image_status)[embedded], pa.string()),
    ]
    return pa.table(columns, schema=_SCHEMAS[Staged.VECTORS])


def _failures(batch: ItemBatch) -> pa.Table:
    failed = np.array([reason is not None for reason in batch.failure])
    columns = [
        *(pa.array(batch.rows[name][failed], pa.string()) for name in STAGED_KEY),
        pa.array([reason for reason in batch.failure if reason is not None], pa.string()),
    ]
    return pa.table(columns, schema=_SCHEMAS[Staged.FAILURES])
