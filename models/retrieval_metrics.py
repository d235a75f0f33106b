"""Retrieval metrics over ranked lists; pure numpy, binary relevance, means over queries.

Each takes `ranked`, one sequence of item ids a query, best first and without repeats, and `relevant`, one collection of
item ids a query, in the same order.  Queries without any relevant item are left out, since no ranking could serve them.
"""

from collections.abc import Collection, Hashable, Sequence

import numpy as np

Ranked = Sequence[Sequence[Hashable]]
Relevant = Sequence[Collection[Hashable]]


def recall_at_k(ranked: Ranked, relevant: Relevant, k: int) -> float:
    """Hits in the top k, by min(k, number relevant): 1 is reachable for every query."""
    scores = [hits[:k].sum() / min(k, total) for hits, total in _hits(ranked, relevant)]
    return _mean(scores)


def ndcg_at_k(ranked: Ranked, relevant: Relevant, k: int) -> float:
    """Discounted cumulative gain (1 / log2(rank + 1) a hit) of the top k, by that of an ideal ranking."""
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    scores = [
        (hits[:k] * discounts[: len(hits[:k])]).sum() / discounts[: min(k, total)].sum()
        for hits, total in _hits(ranked, relevant)
    ]
    return _mean(scores)


def mrr(ranked: Ranked, relevant: Relevant) -> float:
    """1 / rank of the first hit, 0 without one."""
    scores = [1.0 / (1 + hits.argmax()) if hits.any() else 0.0 for hits, _ in _hits(ranked, relevant)]
    return _mean(scores)


def _hits(ranked: Ranked, relevant: Relevant) -> list[tuple[np.ndarray, int]]:
    """By query with relevant items: which ranks hit, and how many items are relevant."""
    if len(ranked) != len(relevant):
        raise ValueError(f"expected as many rankings as judgments, got {len(ranked)} and {len(relevant)}.")
    judged = [(ranking, set(wanted)) for ranking, wanted in zip(ranked, relevant, strict=True) if len(wanted)]
    return [(np.array([item in wanted for item in ranking], dtype=bool), len(wanted)) for ranking, wanted in judged]


def _mean(scores: list[float]) -> float:
    if not scores:
        raise ValueError("no query has a relevant item: nothing to average.")
    return float(np.mean(scores))
