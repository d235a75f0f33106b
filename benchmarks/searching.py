"""What a way to search is worth: how many of the true neighbours it finds, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.index.manifest import Effort, Manifest
from jobs.index.searcher import Neighbours, Searcher
from models.retrieval_metrics import recall_at_k

# Neighbours that a measured search is asked for, and queries that are timed one at a time.
K, DEEP = 10, 100
_ALONE = 200

Search = Callable[[np.ndarray, int], np.ndarray]


class Searched(NamedTuple):
    """What was measured.

    Attributes:
        recall_at_10, recall_at_100: Of the true neighbours' share that was found, the mean over queries.
        alone_ms: Milliseconds a query that is asked by itself, k=10.
        together_ms: Milliseconds a query when all are asked at once, k=10.
    """

    recall_at_10: float
    recall_at_100: float
    alone_ms: float
    together_ms: float


def settings_of(effort: Effort) -> str:
    """How hard a build is searched, as FAISS' `ParameterSpace` is told it."""
    named = {"nprobe": effort.nprobe, "efSearch": effort.ef_search, "k_factor_rf": effort.refine}
    return ",".join(f"{name}={value}" for name, value in named.items() if value)


def search_alone(build: Path, settings: str | None = None) -> Search:
    """The search of a build as FAISS does it by itself, all of it in memory; answers with numbers of items, too.

    Args:
        build: The build's folder.
        settings: For FAISS' `ParameterSpace`; None: the build's own.
    """
    manifest = Manifest.read(str(build))
    index = faiss.IndexShards(manifest.dimension, False, True)  # one after the other; ids count through
    for shard in manifest.shards:
        part = faiss.read_index(str(build / shard.file))
        faiss.ParameterSpace().set_index_parameters(part, settings or settings_of(manifest.effort))
        index.add_shard(part)
    items = pa.concat_tables(pq.read_table(build / shard.items_file, columns=["item_id"]) for shard in manifest.shards)
    numbers = np.array(items["item_id"].to_pylist(), dtype=np.int64)
    return lambda queries, k: item_numbers(Neighbours(*index.search(queries, k)), numbers)


def item_search(searcher: Searcher) -> Search:
    """A build's search, answering with the numbers of items that are the ids in a `VectorLake`."""
    numbers = np.array(searcher.items(["item_id"])["item_id"].to_pylist(), dtype=np.int64)
    return lambda queries, k: item_numbers(searcher.search(queries, k), numbers)


def item_numbers(found: Neighbours, numbers: np.ndarray) -> np.ndarray:
    """(queries, k) numbers of the items that were found; -1 where there are fewer than k."""
    return np.where(found.rows >= 0, numbers[found.rows], -1)


def recall(found: np.ndarray, nearest: np.ndarray, k: int) -> float:
    """Mean share of the true nearest k that are among the k found."""
    return float(recall_at_k(found.tolist(), nearest[:, :k].tolist(), k).mean())


def measure_search(search: Search, queries: np.ndarray, nearest: np.ndarray) -> Searched:
    """Ask all queries, then some of them one by one.

    Args:
        search: What is measured.
        queries: (queries, dimension) float32.
        nearest: (queries, `DEEP`) the true neighbours of each, best first.
    """
    recall_at_100 = recall(search(queries, DEEP), nearest, DEEP)  # and the files' pages are in memory now
    began = time.perf_counter()
    found = search(queries, K)
    together = time.perf_counter() - began
    some = queries[:_ALONE]
    began = time.perf_counter()
    for query in some:
        search(query[None], K)
    alone = time.perf_counter() - began
    return Searched(
        recall_at_10=recall(found, nearest, K),
        recall_at_100=recall_at_100,
        alone_ms=1000 * alone / len(some),
        together_ms=1000 * together / len(queries),
    )
