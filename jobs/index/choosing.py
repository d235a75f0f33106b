"""Which kind of FAISS index a build gets, in how many shards, and how hard it is searched.

The rules and the measurements behind them are in docs/index.md.
"""

import math
import re
from dataclasses import dataclass

# Below this an exact scan answers in about 2 ms a query on one core: nothing to gain from an approximation.
EXACT_BELOW = 100_000
# One shard's vectors: a task holds this much and a little more, and a changed shard is soon fetched.
SHARD_BYTES = 64 * 2**20
# From here on, finding the nearest centroids is itself worth an index.
_GRAPH_QUANTIZER_FROM = 8_192
# FAISS asks for 39 or more training vectors a centroid; more improve recall little.
TRAINING_VECTORS_PER_CENTROID = 40

# Vectors are stored whole: whatever the lists miss is the only loss.
INDEX_KEY_PATTERN = r"^(Flat|IVF[1-9]\d*(_HNSW[1-9]\d*)?,Flat)$"


@dataclass(frozen=True)
class IndexChoice:
    """What the build makes.

    Args:
        index_key: FAISS factory string.
        shards: Number of shards that item ids hash to.
        nprobe: Inverted lists that a search reads; 0 for an index without lists.
    """

    index_key: str
    shards: int
    nprobe: int

    @property
    def training_vectors(self) -> int:
        """Vectors that the index is trained on; 0 when it needs no training."""
        return TRAINING_VECTORS_PER_CENTROID * _lists(self.index_key)


def choose_index(
    vectors: int, dimension: int, *, index_key: str | None = None, shards: int | None = None
) -> IndexChoice:
    """The index for a number of vectors; what the caller names stands.

    Args:
        vectors: Vectors to index, at least 1.
        dimension: Length of each.
        index_key: Factory string that matches `INDEX_KEY_PATTERN`.
        shards: Number of shards.
    """
    key = index_key or _choose_key(vectors)
    # Two at least, so that both halves of a small build are written at once and every night exercises the merge.
    shards = shards or max(2, math.ceil(vectors * dimension * 4 / SHARD_BYTES))
    return IndexChoice(key, shards, nprobe=math.ceil(_lists(key) / 8))


def _choose_key(vectors: int) -> str:
    if vectors < EXACT_BELOW:
        return "Flat"
    lists = 2 ** round(math.log2(4 * math.sqrt(vectors)))
    return f"IVF{lists}_HNSW32,Flat" if lists >= _GRAPH_QUANTIZER_FROM else f"IVF{lists},Flat"


def _lists(index_key: str) -> int:
    lists = re.match(r"IVF(\d+)", index_key)
    return int(lists.group(1)) if lists else 0
