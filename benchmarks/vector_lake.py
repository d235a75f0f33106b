"""A lake that holds made-up vectors as a night's embedding leaves them, and the job that indexes them."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import Row
from pyspark.sql import functions as F

from benchmarks.clustered import BLOCK, ClusteredVectors
from benchmarks.lakes import BenchmarkLake
from benchmarks.peaks import Peaks, watched
from benchmarks.table_work import MODEL, described, items
from jobs.core.lake import Lake
from schemas import INDEX_BUILDS, ITEM_EMBEDDINGS, ITEMS, QUERY_EMBEDDINGS

Result = TypeVar("Result")

NIGHT = dt.date(2026, 1, 1)
# Queries that a night has embedded: the job may tune by them.  No other series is one of theirs.
HEAD_QUERIES, HEAD_SERIES, HELD_OUT_SERIES = 1_000, 0, 1
_FILES = 8


class Built(NamedTuple):
    """A run of the job.

    Attributes:
        folder: The build's.
        seconds: From the start of the process to its end.
        peaks: Of its memory, and of the memory of all that it started.
    """

    folder: Path
    seconds: float
    peaks: Peaks

    @property
    def index_bytes(self) -> int:
        """The FAISS files."""
        return sum(file.stat().st_size for file in self.folder.glob("*.faiss"))

    @property
    def folder_bytes(self) -> int:
        """All files: those of FAISS, the items with their vectors, and what describes them."""
        return sum(file.stat().st_size for file in self.folder.iterdir())


def put_vectors(lake: Lake, vectors: ClusteredVectors, count: int) -> None:
    """Put so many items and their vectors into an empty lake, block by block, and the vectors of its head queries.

    An item's id is its number, its category that of its cluster.
    """
    categories = vectors.categories

    def draw(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch["id"].to_pylist():
                first, block = number * BLOCK, vectors.block(number)
                ends = np.arange(0, block.vectors.size + 1, vectors.dimension, dtype=np.int32)
                rows = {
                    "id": np.arange(first, first + BLOCK),
                    "drawn_category": categories[block.clusters],
                    "drawn_price": block.prices,
                    "embedding": pa.ListArray.from_arrays(ends, block.vectors.ravel()),
                }
                yield pa.RecordBatch.from_pydict(rows).slice(0, count - first)

    spark = lake.read(ITEMS).sparkSession
    blocks = spark.range(0, -(-count // BLOCK), numPartitions=_FILES)
    drawn = blocks.mapInArrow(draw, "id long, drawn_category string, drawn_price double, embedding array<float>")
    rows = items(drawn, F.lit("0"), *drawn.columns).withColumns(
        {"category": F.col("drawn_category"), "price": F.col("drawn_price")}
    )
    lake.append(ITEMS, rows.select(ITEMS.column_names))
    lake.append(ITEM_EMBEDDINGS, described(rows).select(ITEM_EMBEDDINGS.column_names))
    asked = pd.DataFrame({"embedding": list(vectors.queries(HEAD_QUERIES, series=HEAD_SERIES))})
    asked["query"] = [f"query {number}" for number in asked.index]
    asked["impressions"] = range(HEAD_QUERIES, 0, -1)
    asked["model_version"], asked["run_id"] = MODEL, "r"
    names = QUERY_EMBEDDINGS.column_names
    lake.append(QUERY_EMBEDDINGS, spark.createDataFrame(asked[names], QUERY_EMBEDDINGS.schema))


class VectorLake(BenchmarkLake):
    """A lake of a benchmark's own that holds made-up vectors.

    Args:
        folder: Where the lake and its jobs' logs go.
        vectors: What its items are drawn from.
        items: How many.
    """

    def __init__(self, folder: Path, vectors: ClusteredVectors, items: int) -> None:
        super().__init__(folder)
        self._folder = folder
        _apart(_fill, folder, vectors, items)

    def build(self, *options: str) -> Built:
        """Run the job in a process of its own, in a lake that has no build yet: an earlier one is taken away."""
        for folder in (self.root / "indexes", self.root / "tables" / INDEX_BUILDS.name):
            shutil.rmtree(folder, ignore_errors=True)
        with watched() as peaks:
            began = time.perf_counter()
            self.run_job("index", "build", f"--date={NIGHT}", f"--model-version={MODEL}", *options)
            seconds = time.perf_counter() - began
        return Built(only_build(self.root), seconds, peaks)

    def last_build_run(self) -> Row:
        """The record of the last run of the job."""
        return _apart(BenchmarkLake(self._folder).last_run, "index build")


def _apart(function: Callable[..., Result], *arguments: object) -> Result:
    """Call it in a process of its own: the JVM of its session ends with it, and is not there when jobs are measured."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _fill(folder: Path, vectors: ClusteredVectors, items: int) -> None:
    _, lake = BenchmarkLake(folder).open()
    put_vectors(lake, vectors, items)


def only_build(lake: Path) -> Path:
    """The folder of the one build of a lake."""
    (manifest,) = lake.glob("indexes/*/manifest.json")
    return manifest.parent
