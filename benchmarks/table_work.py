"""What a night's table work costs by itself: finding the changed items and merging their vectors, no model at work.

The tables are made up: so many items with a vector each, of which a share gets another title and another vector.  Both
steps are the jobs' own.  They are timed with deletion vectors, as the tables are declared, and without, in turn.

    python -m benchmarks.table_work --items 1000000
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic_settings import BaseSettings
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from rich.filesize import decimal

from benchmarks.lakes import BenchmarkLake
from benchmarks.options import read_options
from benchmarks.table import markdown_table
from jobs.catalog.changes import content_hash
from jobs.core.frames import persisted
from jobs.core.lake import Lake
from jobs.core.options import JobOptions
from jobs.embedding.work import stale_items
from schemas import ITEM_EMBEDDINGS, ITEMS
from schemas.table import Table

MODEL = "a-model"
DELETION_VECTORS = "delta.enableDeletionVectors"


class Options(BaseSettings):
    """Time the comparison of items with vectors, and the merge of what changed, with deletion vectors and without."""

    model_config = JobOptions.model_config

    items: int = Field(1_000_000, ge=1, description="Items, each with a vector.")
    dimension: int = Field(128, ge=2, description="Length of a vector.")
    share: float = Field(0.01, gt=0, le=1, description="Share of the items that change.")
    files: int = Field(8, ge=1, description="Files that the rows lie in.")
    rounds: int = Field(3, ge=1, description="Changes in a row, each timed.")


class Timed(NamedTuple):
    """One change.

    Attributes:
        find_seconds: Comparing all items with all vectors.
        merge_seconds: Bringing the changed vectors in.
        rows: Vectors that changed.
        bytes_added: Of files that the merge wrote, deletion vectors aside.
        files_removed: Files that it replaced as a whole.
    """

    find_seconds: float
    merge_seconds: float
    rows: int
    bytes_added: int
    files_removed: int


def vectors_table(*, deletion_vectors: bool) -> Table:
    """The table of vectors as declared, but for deletion vectors."""
    properties = {**ITEM_EMBEDDINGS.properties, DELETION_VECTORS: str(deletion_vectors).lower()}
    return replace(ITEM_EMBEDDINGS, name=f"vectors_{deletion_vectors}".lower(), properties=properties)


def items(ids: DataFrame, version: Column, *kept: str) -> DataFrame:
    """Rows of `items`, whose title ends with a version, beside the columns of `ids` that are kept."""
    item_id, day = F.col("id").cast("string"), F.lit("2026-01-01").cast("date")
    title = F.concat(F.lit("women red summer dress "), item_id, F.lit(" "), version)
    return ids.select(
        *kept,
        item_id.alias("item_id"),
        title.alias("title"),
        F.lit("dress").alias("category"),
        F.lit(10.0).alias("price"),
        F.lit(True).alias("in_stock"),
        F.lit(None).cast("string").alias("image_uri"),
        F.lit(None).cast("string").alias("image_etag"),
        F.sha2(item_id, 256).alias("image_sha256"),
        content_hash(title, F.sha2(item_id, 256)).alias("content_hash"),
        F.lit(True).alias("is_active"),
        day.alias("first_seen"),
        F.lit(None).cast("date").alias("inactive_since"),
        day.alias("snapshot_date"),
    )


def embedded(rows: DataFrame, *, dimension: int, seed: int) -> DataFrame:
    """Rows of the table of vectors for items: random directions."""

    def draw(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            random = np.random.default_rng([seed, int(batch["item_id"].iloc[0])])
            vectors = random.standard_normal((len(batch), dimension), dtype=np.float32)
            yield batch.assign(embedding=list(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)))

    drawn = rows.select("item_id", "content_hash").mapInPandas(
        draw, "item_id string, content_hash string, embedding array<float>"
    )
    return described(drawn)


def described(vectors: DataFrame) -> DataFrame:
    """Rows of the table of vectors, of which item_id, content_hash and embedding are known; the rest is constant."""
    constants = {"title_weight": 0.5, "image_weight": 0.5, "photo_effect": 0.1, "image_status": "ok", "run_id": "r"}
    return vectors.withColumns({"model_version": F.lit(MODEL), **{n: F.lit(value) for n, value in constants.items()}})


def measure(lake: Lake, options: Options) -> dict[bool, list[Timed]]:
    """Change a share of the titles, round after round: with deletion vectors or without to what each change took."""
    spark = lake.read(ITEMS).sparkSession
    ids = spark.range(options.items).repartition(options.files)
    lake.append(ITEMS, items(ids, F.lit("0")))
    tables = {deletion_vectors: vectors_table(deletion_vectors=deletion_vectors) for deletion_vectors in (True, False)}
    for table in tables.values():
        rows = lake.read(ITEMS).repartition(options.files)
        lake.append(table, embedded(rows, dimension=options.dimension, seed=0))
    timed: dict[bool, list[Timed]] = {deletion_vectors: [] for deletion_vectors in tables}
    for number in range(1, options.rounds + 1):
        is_changed = F.pmod(F.xxhash64("id", F.lit(number)), F.lit(1_000_000)) < int(options.share * 1_000_000)
        lake.merge(ITEMS, items(ids.where(is_changed), F.lit(str(number))))
        for deletion_vectors, table in tables.items():
            timed[deletion_vectors].append(_timed(lake, table, dimension=options.dimension, seed=number))
    return timed


def _timed(lake: Lake, table: Table, *, dimension: int, seed: int) -> Timed:
    began = time.perf_counter()
    stale = stale_items(lake.read(ITEMS), lake.read(table, lake.version(table)), model_version=MODEL)
    with persisted(stale) as rows:
        rows.count()
        found = time.perf_counter()
        with persisted(embedded(rows, dimension=dimension, seed=seed)) as vectors:
            vectors.count()
            staged = time.perf_counter()
            lake.merge(table, vectors, within={"model_version": MODEL})
            merged = time.perf_counter()
    figures = lake.delta(table).history(1).first()["operationMetrics"]
    return Timed(
        find_seconds=found - began,
        merge_seconds=merged - staged,
        rows=int(figures["numTargetRowsUpdated"]),
        bytes_added=int(figures["numTargetBytesAdded"]),
        files_removed=int(figures["numTargetFilesRemoved"]),
    )


def told(timed: dict[bool, list[Timed]]) -> str:
    """A Markdown table of the medians."""
    rows = [["deletion vectors", "changed", "find, s", "merge, s", "written", "files replaced"]]
    for deletion_vectors, changes in timed.items():
        find, merge, changed, written, removed = (median(values) for values in zip(*changes, strict=True))
        rows.append(
            [
                "on" if deletion_vectors else "off",
                f"{changed:,.0f}",
                f"{find:.1f}",
                f"{merge:.1f}",
                decimal(int(written)),
                f"{removed:.0f}",
            ]
        )
    return markdown_table(rows)


def main(arguments: list[str]) -> None:
    """Fill the tables, change them, and print medians."""
    options = read_options(Options, arguments)
    with tempfile.TemporaryDirectory() as folder:
        _, lake = BenchmarkLake(Path(folder)).open()
        print(told(measure(lake, options)))
        print(f"\n{options.items:,} items, vectors of {options.dimension}, {os.cpu_count()} CPU cores")


if __name__ == "__main__":
    main(sys.argv[1:])
