"""Which kind of FAISS index a build gets, and in how many shards.

The rules and the measurements behind them are in docs/index.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.index.index_key import IndexKey

# Below this an exact scan answers in about 2 ms a query on one core: nothing to gain from an approximation.
EXACT_BELOW = 100_000
# From here on, reading whole vectors list by list is most of a search's time, and short codes are worth training.
_CODES_FROM = 1_000_000
# From so many lists on, a lone query would spend milliseconds on comparing itself with every centroid.
_GRAPH_QUANTIZER_FROM = 65_536
# Two bits a dimension tell too little of a short vector, and too little to find nearly everything.
_BITS_FROM_DIMENSION = 64
_BITS_UP_TO_RECALL = 0.995
_MEBIBYTE = 2**20


@dataclass(frozen=True)
class IndexChoice:
    """What the build makes.

    Args:
        index_key: FAISS factory string.
        shards: Number of shards of each part of the catalog; one number where it is in one part.
        recall_target: Recall@10 that the effort of searches is tuned to.
    """

    index_key: str
    shards: tuple[int, ...]
    recall_target: float

    @property
    def key(self) -> IndexKey:
        """The factory string, taken apart."""
        return IndexKey.parse(self.index_key)


def choose_index(
    parts: Sequence[int],
    dimension: int,
    *,
    recall_target: float,
    shard_memory_mib: int,
    index_key: str | None = None,
    shards: int | None = None,
) -> IndexChoice:
    """The index for a number of vectors; what the caller names stands.

    Args:
        parts: Vectors of each part of the catalog that gets shards of its own, each at least 1; one number for all.
        dimension: Length of each.
        recall_target: Recall@10 that searches are to reach.
        shard_memory_mib: What a shard's index may take in the memory of the task that builds it, in MiB.
        index_key: Factory string that matches `index_key.INDEX_KEY_PATTERN`.
        shards: Number of shards a part.
    """
    key = IndexKey.parse(index_key or _choose_key(sum(parts), dimension, recall_target))
    most = shard_memory_mib * _MEBIBYTE // key.bytes_a_vector(dimension)
    # Two at least, so that both halves of a small build are written at once and every night exercises the merge.
    least = 2 if len(parts) == 1 else 1
    numbers = tuple(shards or max(least, math.ceil(vectors / most)) for vectors in parts)
    return IndexChoice(key.text, numbers, recall_target)


def _choose_key(vectors: int, dimension: int, recall_target: float) -> str:
    if vectors < EXACT_BELOW:
        return "Flat"
    lists = 2 ** round(math.log2(4 * math.sqrt(vectors)))
    quantizer = f"IVF{lists}_HNSW32" if lists >= _GRAPH_QUANTIZER_FROM else f"IVF{lists}"
    if vectors < _CODES_FROM:
        return f"{quantizer},Flat"
    return f"{quantizer},{_choose_code(dimension, recall_target)},RFlat"


def _choose_code(dimension: int, recall_target: float) -> str:
    if dimension >= _BITS_FROM_DIMENSION and recall_target <= _BITS_UP_TO_RECALL:
        return "RaBitQ2"
    return "SQ8"
