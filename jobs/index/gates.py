"""Gates: figures of a build, each with the bound that it must keep.  Pure functions over arrays and counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jobs.index.searcher import Neighbours
from jobs.index.shard import SCORE_TOLERANCE
from models.retrieval_metrics import bootstrap_interval

# Figures are kept to what can be told apart, so that a check that is run again writes the same.
_DECIMALS = 6


@dataclass(frozen=True)
class Gate:
    """One figure's verdict, as `index_builds.gates` stores it.

    Args:
        gate: Name of the figure.
        figure: What was measured.
        bound: What it must keep.
        passed: Whether it does.
        blocking: Whether the build may not be published when it does not.
        detail: What a person needs to judge the figure.
    """

    gate: str
    figure: float
    bound: float
    passed: bool
    blocking: bool
    detail: str

    def __str__(self) -> str:
        return f"{self.gate} is {self.figure:.4f}, bound {self.bound:g} ({self.detail})"


def at_least(gate: str, figure: float, bound: float, detail: str, *, blocking: bool = True) -> Gate:
    """A gate for a figure that must not fall below its bound."""
    figure = round(float(figure), _DECIMALS)
    return Gate(gate, figure, bound, figure >= bound, blocking, detail)


def at_most(gate: str, figure: float, bound: float, detail: str, *, blocking: bool = True) -> Gate:
    """A gate for a figure that must not exceed its bound."""
    figure = round(float(figure), _DECIMALS)
    return Gate(gate, figure, bound, figure <= bound, blocking, detail)


def recall_gate(found: Neighbours, exact: Neighbours, *, k: int, bound: float, source: str) -> Gate:
    """Recall@k of the index against exact search.

    A result counts when it scores no lower than the k-th exact one: of equally good items, either may be returned.
    Queries differ far more than results of one query do, so the interval resamples queries, and its lower end is what
    must reach the bound: a few lucky queries do not pass.

    Args:
        found: The index's answers, k or more places.
        exact: Exact search's answers to the same queries.
        k: Places that count.
        bound: Least recall.
        source: What the queries are.
    """
    least = exact.scores[:, k - 1 : k] - SCORE_TOLERANCE
    by_query = (found.scores[:, :k] >= least).mean(axis=1)
    lower, upper = bootstrap_interval(by_query)
    figure = round(float(by_query.mean()), _DECIMALS)
    detail = f"95 % interval from {lower:.4f} (which counts) to {upper:.4f}, {len(by_query):,} {source}"
    return Gate(f"recall_at_{k}", figure, bound, bool(round(lower, _DECIMALS) >= bound), blocking=True, detail=detail)


def judged_gate(name: str, figures: np.ndarray, before: np.ndarray | None, *, max_loss: float, detail: str) -> Gate:
    """A figure of judged queries, against the same queries' in the published build.

    Which items a night adds moves single queries at random.  So the loss counts, query by query, by the end of its
    95 % interval that is kinder to the build: it must be sure, not merely seen, that more than `max_loss` was lost.

    Args:
        name: Name of the figure.
        figures: (queries,) in the new build.
        before: (queries,) in the published build; None when there is none, and then nothing can fail.
        max_loss: How much of the mean may be lost.
        detail: What the queries are.
    """
    figure = round(float(figures.mean()), _DECIMALS)
    if before is None:
        return Gate(name, figure, 0.0, True, blocking=True, detail=f"{detail}; nothing to compare with")
    bound = round(float(before.mean()) - max_loss, _DECIMALS)
    _, upper = bootstrap_interval(figures - before)
    passed = round(upper, _DECIMALS) >= -max_loss
    detail = (
        f"{detail}; published {before.mean():.4f}; the change is at most {upper:+.4f} (95 % interval, which counts)"
    )
    return Gate(name, figure, bound, passed, blocking=True, detail=detail)


def drift(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """1 - cosine of each item's old and new vector: (items,) from two (items, dimension) unit-norm arrays."""
    return 1 - (before * after).sum(axis=1)


def neighbour_churn(surviving: np.ndarray, scores: np.ndarray, least: np.ndarray) -> float:
    """Share of old neighbours that are still in the catalog, unchanged, and no longer among an item's nearest.

    Args:
        surviving: (items, k) bool: the old neighbour is in both builds with the same content.
        scores: (items, k): its inner product with the item in the new build; read where it survives.
        least: (items,): the new build's k-th score; what reaches it is still a neighbour, ties included.

    Returns:
        0 (none lost) to 1; 0 when nothing survives, since then the catalog changed and not the index.
    """
    lost = surviving & (scores < least[:, None] - SCORE_TOLERANCE)
    return float(lost.sum() / max(1, surviving.sum()))
