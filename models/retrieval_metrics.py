"""Retrieval metrics over ranked lists; pure numpy, binary relevance, one figure a query.

Each takes `ranked`, one sequence of item ids a query, best first and without repeats, and `relevant`, one collection of
item ids a query, in the same order, and returns a (queries,) float array whose mean is the metric.

Raises:
    ValueError: as many rankings as judgments were expected, or a query has no relevant item, which no ranking serves.
"""

import math
from collections.abc import Collection, Hashable, Sequence

import numpy as np

Ranked = Sequence[Sequence[Hashable]]
Relevant = Sequence[Collection[Hashable]]

# Bootstrap means: so many at a time, and so many beyond either end of an interval.
_RESAMPLES = 1_000
_RESAMPLES_BEYOND = 10


def recall_at_k(ranked: Ranked, relevant: Relevant, k: int) -> np.ndarray:
    """Hits in the top k, by min(k, number relevant): 1 is reachable for every query."""
    return np.array([hits[:k].sum() / min(k, total) for hits, total in _hits(ranked, relevant)])


def ndcg_at_k(ranked: Ranked, relevant: Relevant, k: int) -> np.ndarray:
    """Discounted cumulative gain (1 / log2(rank + 1) a hit) of the top k, by that of an ideal ranking."""
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    return np.array(
        [
            (hits[:k] * discounts[: len(hits[:k])]).sum() / discounts[: min(k, total)].sum()
            for hits, total in _hits(ranked, relevant)
        ]
    )


def reciprocal_rank(ranked: Ranked, relevant: Relevant) -> np.ndarray:
    """1 / rank of the first hit, 0 without one; its mean is MRR."""
    return np.array([1.0 / (1 + hits.argmax()) if hits.any() else 0.0 for hits, _ in _hits(ranked, relevant)])


def bootstrap_interval(
    values: np.ndarray, *, weights: np.ndarray | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Percentile-bootstrap interval of the mean of (n,) values; the same values always give the same.

    The higher the level, the more resamples: its ends would else be the extremes of a few draws.

    Args:
        values: One a sample.
        weights: (n,) positive, what each counts in the mean; None: all the same.
        level: How often the mean of such samples lies within.
    """
    weights = np.ones(len(values)) if weights is None else weights
    weighted = values * weights
    beyond = (1 - level) / 2
    random = np.random.default_rng(0)
    means = []
    for _ in range(max(1, math.ceil(_RESAMPLES_BEYOND / beyond / _RESAMPLES))):
        draws = random.integers(len(values), size=(_RESAMPLES, len(values)))
        means.append(weighted[draws].sum(axis=1) / weights[draws].sum(axis=1))
    lower, upper = np.quantile(np.concatenate(means), [beyond, 1 - beyond])
    return float(lower), float(upper)


def _hits(ranked: Ranked, relevant: Relevant) -> list[tuple[np.ndarray, int]]:
    """By query: which ranks hit, and how many items are relevant."""
    if len(ranked) != len(relevant):
        raise ValueError(f"expected as many rankings as judgments, got {len(ranked)} and {len(relevant)}.")
    wanted = [set(items) for items in relevant]
    if not all(wanted):
        raise ValueError(f"query {wanted.index(set())} has no relevant item: leave it out, no ranking could serve it.")
    return [
        (np.array([item in items for item in ranking], dtype=bool), len(items))
        for ranking, items in zip(ranked, wanted, strict=True)
    ]
