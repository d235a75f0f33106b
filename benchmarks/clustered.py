"""Vectors to measure an index with: clustered, and drawn anew wherever they are needed, so that none need be kept.

Why clustered, and not uniform: uniform directions of 128 dimensions are all about equally far from each other.  There
is nothing to group then, no index is much better than reading everything, and none that is good on them need be good on
products.  These come in kinds within kinds, some large and some small, and around each kind they differ in few ways
much and in many a little.  So here: regions, clusters of unequal size around them, and around each cluster noise whose
spread falls from direction to direction, in an order of the region's own.  Norms are 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import faiss
import numpy as np
from faiss.contrib.exhaustive_search import knn_ground_truth

# Items that are drawn at once.  An item's vector depends on its number and the seed alone.
BLOCK = 16_384
REGIONS, CLUSTERS = 256, 4_096
# How far clusters lie from the middle of their region, and items from that of their cluster, where either is 1 from 0.
# Neighbours are then found in several clusters, and some tens of directions count.
_CLUSTER_DISTANCE, _ITEM_DISTANCE, _SPREAD_FALLS = 0.5, 1.5, 0.3
# How unequal clusters are: the standard deviation of the logarithm of their size.
_INEQUALITY = 1.0
# Categories are whole clusters that lie together, of about these shares of the items; all others are in the last one.
CATEGORY_SHARES = {"0.01 %": 0.0001, "0.1 %": 0.001, "1 %": 0.01, "10 %": 0.1, "50 %": 0.5}
REMAINING_CATEGORY = "all others"
_ITEMS, _QUERIES = 1, 2


class Drawn(NamedTuple):
    """Some items.

    Attributes:
        vectors: (items, dimension) float32.
        clusters: (items,) the cluster of each, from 0.
        prices: (items,) from 0 to 100, whatever the vector.
    """

    vectors: np.ndarray
    clusters: np.ndarray
    prices: np.ndarray


class ClusteredVectors:
    """Items' and queries' vectors of one distribution.

    Args:
        dimension: Length of a vector.
        seed: Another one gives other regions, clusters and vectors.
    """

    def __init__(self, dimension: int = 128, seed: int = 0) -> None:
        self.dimension, self._seed = dimension, seed
        random = np.random.default_rng(seed)
        sizes = random.lognormal(sigma=_INEQUALITY, size=CLUSTERS)
        regions = random.integers(REGIONS, size=CLUSTERS)
        order = np.lexsort((sizes, regions))
        self._shares, self._regions = sizes[order] / sizes.sum(), regions[order]
        middles = _unit(random.standard_normal((REGIONS, dimension)))
        away = _unit(random.standard_normal((CLUSTERS, dimension)))
        self._centres = _unit(middles[self._regions] + _CLUSTER_DISTANCE * away)
        spread = np.arange(1, dimension + 1) ** -_SPREAD_FALLS
        spread *= _ITEM_DISTANCE / np.linalg.norm(spread)
        self._spreads = np.stack([random.permutation(spread) for _ in range(REGIONS)]).astype(np.float32)
        # Without it the directions of most spread would be the axes, which suits indexes that cut along these.
        self._rotation = np.linalg.qr(random.standard_normal((dimension, dimension)))[0].astype(np.float32)

    @property
    def categories(self) -> np.ndarray:
        """(CLUSTERS,) the category of each cluster."""
        begins = np.cumsum(self._shares) - self._shares
        names = np.array([*CATEGORY_SHARES, REMAINING_CATEGORY])
        return names[np.searchsorted(np.cumsum(list(CATEGORY_SHARES.values())), begins, side="right")]

    def block(self, number: int) -> Drawn:
        """The items from `number * BLOCK` on, `BLOCK` of them."""
        random = np.random.default_rng([self._seed, _ITEMS, number])
        vectors, clusters = self._draw(random, BLOCK, self._shares)
        return Drawn(vectors, clusters, random.uniform(0, 100, BLOCK))

    def blocks(self, count: int) -> Iterator[Drawn]:
        """The first items, block by block."""
        for first in range(0, count, BLOCK):
            yield Drawn(*(values[: count - first] for values in self.block(first // BLOCK)))

    def queries(self, count: int, *, series: int = 0, category: str | None = None) -> np.ndarray:
        """(count, dimension) float32: drawn as items are, but no items.

        Args:
            count: How many.
            series: Another one gives other queries.
            category: Draw them around clusters of this category only.
        """
        shares = self._shares if category is None else np.where(self.categories == category, self._shares, 0)
        random = np.random.default_rng([self._seed, _QUERIES, series])
        return self._draw(random, count, shares / shares.sum())[0]

    def _draw(self, random: np.random.Generator, count: int, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        clusters = random.choice(CLUSTERS, count, p=shares)
        noise = random.standard_normal((count, self.dimension), dtype=np.float32)
        noise *= self._spreads[self._regions[clusters]]
        return _unit((self._centres[clusters] + noise) @ self._rotation), clusters

    def nearest(self, queries: np.ndarray, k: int, *, items: int, allowed: np.ndarray | None = None) -> np.ndarray:
        """(queries, k) numbers of the items that have the highest inner product, found by comparing with each.

        Args:
            queries: (queries, dimension) float32.
            k: How many of the first `items` to name a query; where fewer are allowed, all of these.
            items: How many items there are.
            allowed: (items,) bool, those that may be named.
        """
        allowed = np.ones(items, dtype=bool) if allowed is None else allowed
        numbers = np.flatnonzero(allowed)

        def allowed_vectors() -> Iterator[np.ndarray]:
            for first, block in zip(range(0, items, BLOCK), self.blocks(items), strict=True):
                if allowed[first : first + BLOCK].any():
                    yield block.vectors[allowed[first : first + BLOCK]]

        found = knn_ground_truth(queries, allowed_vectors(), min(k, len(numbers)), faiss.METRIC_INNER_PRODUCT)[1]
        return numbers[found]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
