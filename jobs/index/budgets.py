"""What a build may cost those who serve it: bytes in memory, and a person's time before a page of results."""

from __future__ import annotations

import time

import numpy as np

from jobs.core.lake import Lake
from jobs.index.builds import INDEXES
from jobs.index.gates import Gate
from jobs.index.searcher import Searcher

_BYTES_PER_NUMBER = 4
_RESULTS = 10
_TIMED_QUERIES = 100
# Searches before time is taken: they fetch from disk what all others find in memory.
_WARM_UP_QUERIES = 5


def size_gate(lake: Lake, searcher: Searcher, bound: float) -> Gate:
    """Bytes of the shards' FAISS files, as a multiple of the vectors' own."""
    manifest = searcher.manifest
    size = sum(lake.fs.size(lake.path(INDEXES, manifest.build_id, shard.file)) for shard in manifest.shards)
    vectors = len(searcher) * manifest.dimension * _BYTES_PER_NUMBER
    return Gate.of("size", size / vectors, bound, f"{size / 2**20:,.1f} MiB for {vectors / 2**20:,.1f} MiB of vectors")


def latency_gate(searcher: Searcher, queries: np.ndarray, bound: float) -> Gate:
    """95th percentile of a search's milliseconds, one query at a time.

    Args:
        searcher: The build.
        queries: (queries, dimension) float32, at least one.
        bound: Most milliseconds.
    """
    for row in range(min(_WARM_UP_QUERIES, len(queries))):
        searcher.search(queries[row : row + 1], _RESULTS)
    milliseconds = []
    for row in range(min(_TIMED_QUERIES, len(queries))):
        start = time.perf_counter()
        searcher.search(queries[row : row + 1], _RESULTS)
        milliseconds.append(1000 * (time.perf_counter() - start))
    middle, high = np.percentile(milliseconds, [50, 95])
    detail = f"{len(milliseconds):,} searches for {_RESULTS} results, one at a time; half within {middle:.2f} ms"
    return Gate.of("latency_p95_ms", high, bound, detail)
