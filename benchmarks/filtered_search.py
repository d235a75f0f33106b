"""What conditions do to a search: recall and milliseconds by the share of the items that may be found.

Conditions on the price have nothing to do with the vectors.  Conditions on the category do: a category is some clusters
that lie together, and is asked for by queries from around clusters of another, so that no list or neighbour which a
search comes by is likely to be allowed.  That is the hard case, and the usual one: red dresses, among shoes.

    python -m benchmarks.filtered_search --items 1000000
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.clustered import CATEGORY_SHARES, REMAINING_CATEGORY, ClusteredVectors
from benchmarks.options import read_options
from benchmarks.searching import K, item_numbers, recall
from benchmarks.table import markdown_table
from benchmarks.vector_lake import HELD_OUT_SERIES, VectorLake
from jobs.core.options import JobOptions
from jobs.index.filters import ItemFilter
from jobs.index.searcher import Searcher

_FINDINGS = 5


class Options(BaseSettings):
    """Search an index under conditions that fewer and fewer items meet."""

    model_config = JobOptions.model_config

    items: int = Field(1_000_000, ge=1, description="Vectors to index.")
    dimension: int = Field(128, ge=2, description="Length of a vector.")
    queries: int = Field(200, ge=1, description="Held-out vectors whose neighbours are searched for.")


class Filtered(NamedTuple):
    """Searches under one condition.

    Attributes:
        condition: What was asked for.
        allowed: Items that meet it.
        rows_ms: Milliseconds that finding these took, once for all searches.
        search_ms: Milliseconds a query, asked by itself.
        recall_at_10: Against comparing with every allowed item.
    """

    condition: str
    allowed: int
    rows_ms: float
    search_ms: float
    recall_at_10: float


class Case(NamedTuple):
    """A condition, and who asks under it.

    Attributes:
        condition: As people are told it.
        item_filter: As the searcher is told it.
        allowed: (items,) bool, the items that meet it.
        queries: (queries, dimension) float32.
    """

    condition: str
    item_filter: ItemFilter
    allowed: np.ndarray
    queries: np.ndarray


def cases(vectors: ClusteredVectors, items: int, queries: int) -> Iterator[Case]:
    """From no condition to the narrowest, first on the price, then on the category."""
    blocks = [(block.prices, block.clusters) for block in vectors.blocks(items)]
    prices, clusters = (np.concatenate(values) for values in zip(*blocks, strict=True))
    asked = vectors.queries(queries, series=HELD_OUT_SERIES)
    yield Case("none", ItemFilter(), np.ones(items, dtype=bool), asked)
    shares = sorted(CATEGORY_SHARES.items(), key=lambda named: named[1], reverse=True)
    for name, share in (("100 %", 1.0), *shares):
        bound = 100 * share
        yield Case(f"price, {name}", ItemFilter(max_price=bound), prices <= bound, asked)
    from_elsewhere = vectors.queries(queries, series=HELD_OUT_SERIES, category=REMAINING_CATEGORY)
    categories = vectors.categories[clusters]
    for name, _ in shares:
        yield Case(f"another category, {name}", ItemFilter(category=name), categories == name, from_elsewhere)


def measure(searcher: Searcher, vectors: ClusteredVectors, queries: int) -> list[Filtered]:
    """Search a build of the vectors under one condition after another."""
    items = len(searcher)
    numbers = np.array(searcher.items(["item_id"])["item_id"].to_pylist(), dtype=np.int64)
    measured = []
    for case in cases(vectors, items, queries):
        finding = []
        for _ in range(_FINDINGS):
            began = time.perf_counter()
            only = case.item_filter.rows_of(searcher)
            finding.append(time.perf_counter() - began)
        searcher.search(case.queries, K, only=only)  # what it reads of the files is in memory now
        began = time.perf_counter()
        found = np.concatenate(
            [item_numbers(searcher.search(query[None], K, only=only), numbers) for query in case.queries]
        )
        seconds = time.perf_counter() - began
        nearest = vectors.nearest(case.queries, K, items=items, allowed=case.allowed)
        measured.append(
            Filtered(
                condition=case.condition,
                allowed=int(case.allowed.sum()),
                rows_ms=1000 * median(finding),
                search_ms=1000 * seconds / len(case.queries),
                recall_at_10=recall(found, nearest, K),
            )
        )
    return measured


def told(measured: list[Filtered], items: int) -> str:
    """A Markdown table of the conditions."""
    rows = [["condition", "items that meet it", "share", "finding them, ms", "ms a query", "recall@10"]]
    for filtered in measured:
        rows.append(
            [
                filtered.condition,
                f"{filtered.allowed:,}",
                f"{filtered.allowed / items:.3%}",
                f"{filtered.rows_ms:.0f}",
                f"{filtered.search_ms:.2f}",
                f"{filtered.recall_at_10:.4f}",
            ]
        )
    return markdown_table(rows)


def main(arguments: list[str]) -> None:
    """Build the index, search it, and print the table."""
    options = read_options(Options, arguments)
    vectors = ClusteredVectors(options.dimension)
    with tempfile.TemporaryDirectory() as folder:
        searcher = Searcher.open(str(VectorLake(Path(folder), vectors, options.items).build().folder))
        print(told(measure(searcher, vectors, options.queries), options.items))
        key, shards = searcher.manifest.index_key, len(searcher.manifest.shards)
    size = f"{options.items:,} vectors of {options.dimension}"
    print(f"\n{size}, {options.queries:,} queries, `{key}` in {shards} shards, {os.cpu_count()} CPU cores")


if __name__ == "__main__":
    main(sys.argv[1:])
