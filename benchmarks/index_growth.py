"""How the index grows with its items: the job's seconds and memory, bytes on disk, a search's seconds, and recall.

No more than a block of vectors is held at a time, so that the disk alone bounds the sizes.

    python -m benchmarks.index_growth --sizes 100000,1000000,10000000
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.clustered import ClusteredVectors
from benchmarks.options import read_options
from benchmarks.searching import DEEP, Searched, item_search, measure_search
from benchmarks.table import markdown_table
from benchmarks.vector_lake import HELD_OUT_SERIES, Built, VectorLake
from jobs.core.options import CommaSeparated, JobOptions
from jobs.index.searcher import Searcher


class Options(BaseSettings):
    """Build and search indexes of several sizes by the job's own choices."""

    model_config = JobOptions.model_config

    sizes: CommaSeparated[int] = Field([100_000, 1_000_000], description="Vectors to index, as n,m.")
    dimension: int = Field(128, ge=2, description="Length of a vector.")
    queries: int = Field(1_000, ge=1, description="Held-out vectors whose neighbours are searched for.")


class Size(NamedTuple):
    """An index of one size.

    Attributes:
        items: Vectors in it.
        key: FAISS factory string.
        shards: Files that it lies in.
        built: The job's run.
        index_bytes, folder_bytes: Of its FAISS files, and of all its files.
        stages: Seconds of the job by stage, as it recorded them.
        searched: What searching it is worth.
    """

    items: int
    key: str
    shards: int
    built: Built
    index_bytes: int
    folder_bytes: int
    stages: Mapping[str, float]
    searched: Searched


def measure(vectors: ClusteredVectors, items: int, queries: int, folder: Path) -> Size:
    """Build and search an index of so many items."""
    lake = VectorLake(folder, vectors, items)
    built = lake.build()
    searcher = Searcher.open(str(built.folder))
    asked = vectors.queries(queries, series=HELD_OUT_SERIES)
    return Size(
        items=items,
        key=searcher.manifest.index_key,
        shards=len(searcher.manifest.shards),
        built=built,
        index_bytes=built.index_bytes,
        folder_bytes=built.folder_bytes,
        stages=lake.last_build_run()["seconds"],
        searched=measure_search(item_search(searcher), asked, vectors.nearest(asked, DEEP, items=items)),
    )


def told(sizes: list[Size]) -> str:
    """Two Markdown tables: what building takes, and what searching does."""
    building = [["items", "key", "shards", "wall, s", "of it, by stage", "largest worker, MiB", "all processes, MiB"]]
    building[0] += ["index, MiB", "with items, MiB"]
    searching = [["items", "ms a query, alone", "together", "recall@10", "recall@100"]]
    for size in sizes:
        built, searched = size.built, size.searched
        building.append(
            [
                f"{size.items:,}",
                f"`{size.key}`",
                str(size.shards),
                f"{built.seconds:,.0f}",
                ", ".join(f"{stage} {seconds:,.1f}" for stage, seconds in size.stages.items()),
                *(
                    f"{taken / 2**20:,.0f}"
                    for taken in (
                        built.peaks.worker_bytes,
                        built.peaks.tree_bytes,
                        size.index_bytes,
                        size.folder_bytes,
                    )
                ),
            ]
        )
        times = [f"{searched.alone_ms:.2f}", f"{searched.together_ms:.2f}"]
        recalls = [f"{searched.recall_at_10:.4f}", f"{searched.recall_at_100:.4f}"]
        searching.append([f"{size.items:,}", *times, *recalls])
    return f"{markdown_table(building)}\n\n{markdown_table(searching)}"


def main(arguments: list[str]) -> None:
    """Build and search size after size, and print the tables."""
    options = read_options(Options, arguments)
    vectors, sizes = ClusteredVectors(options.dimension), []
    for items in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            sizes.append(measure(vectors, items, options.queries, Path(folder)))
    print(told(sizes))
    print(f"\nvectors of {options.dimension}, {options.queries:,} queries, {os.cpu_count()} CPU cores")


if __name__ == "__main__":
    main(sys.argv[1:])
