"""Gates: figures of a build, each with the bound that it must keep.  Pure functions over arrays and counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from jobs.index.searcher import Neighbours
from jobs.index.shard import SCORE_TOLERANCE
from models.retrieval_metrics import bootstrap_interval

# Gates whose figure must not exceed its bound; the figure of any other must reach it.
CEILINGS = frozenset(
    {"norms", "model_agreement", "drift", "neighbour_churn", "worst_category_churn", "size", "latency_p95_ms"}
)
# Gates whose bound is the published build's figure, less what may be lost.
COMPARED = frozenset({"judged_recall_at_10", "judged_ndcg_at_10"})
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

    @classmethod
    def of(
        cls,
        gate: str,
        figure: float,
        bound: float,
        detail: str,
        *,
        counts: float | None = None,
        blocking: bool = True,
    ) -> Self:
        """Hold a figure against its bound, from the side that `CEILINGS` says; what is not a number misses any.

        Args:
            gate, figure, bound, detail, blocking: As the gate has them.
            counts: What is compared in the figure's place: an end of its interval.
        """
        figure, bound, counts = (
            round(float(value), _DECIMALS) for value in (figure, bound, figure if counts is None else counts)
        )
        passed = counts <= bound if gate in CEILINGS else counts >= bound
        return cls(gate, figure, bound, passed, blocking, detail)

    def __str__(self) -> str:
        return f"{self.gate} is {self.figure:.4f}, bound {self.bound:g} ({self.detail})"


class Share(NamedTuple):
    """A share with its 95 % interval over the samples that it was taken of."""

    value: float
    lower: float
    upper: float
    samples: int


def share_of(hits: np.ndarray, chances: np.ndarray) -> Share | None:
    """Hits among chances, both counted by sample: queries differ far more than results of one query do, and items too.

    Args:
        hits, chances: (samples,); a sample without a chance tells nothing and is left out.

    Returns:
        None when no sample has a chance.
    """
    tells = chances > 0
    if not tells.any():
        return None
    hits, chances = hits[tells], chances[tells]
    lower, upper = bootstrap_interval(hits / chances, weights=chances)
    return Share(float(hits.sum() / chances.sum()), lower, upper, len(hits))


def recall_gate(found: Neighbours, exact: Neighbours, *, k: int, bound: float, source: str) -> Gate:
    """Recall@k of the index against exact search.

    A result counts when it scores no lower than the k-th exact one: of equally good items, either may be returned.
    The interval is over queries, and its lower end is what must reach the bound: a few lucky queries do not pass.

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
    detail = f"95 % interval from {lower:.4f} (which counts) to {upper:.4f}, {len(by_query):,} {source}"
    return Gate.of(f"recall_at_{k}", by_query.mean(), bound, detail, counts=lower)


def shard_recall_gate(
    found: Neighbours, exact: Neighbours, rows_of_shards: Mapping[str, int], *, bound: float
) -> Gate | None:
    """Recall of the shard that misses most of what exact search finds in it.

    Of items as good as the last exact result either may be returned, from whichever shard: those are asked of none.
    A shard has a fraction of each query's results, so its recall is less sure than that of all.  It is found wanting
    when even the upper end of its interval over queries misses the bound.

    Args:
        found: The index's answers.
        exact: Exact search's answers to the same queries, as many places.
        rows_of_shards: Shard to its rows, in the order of the build's rows.
        bound: Least recall.

    Returns:
        None when no result is asked of any shard: all items are equally good.
    """
    due = exact.scores > exact.scores[:, -1:] + SCORE_TOLERANCE
    came = due & (exact.rows[:, :, None] == found.rows[:, None, :]).any(axis=2)
    shard_of = np.searchsorted(np.cumsum(list(rows_of_shards.values())), exact.rows, side="right")
    shares = {}
    for number, name in enumerate(rows_of_shards):
        share = share_of((came & (shard_of == number)).sum(axis=1), (due & (shard_of == number)).sum(axis=1))
        if share is not None:
            shares[name] = share
    if not shares:
        return None
    worst = min(shares, key=lambda name: shares[name].upper)
    share = shares[worst]
    detail = f"{worst}: 95 % interval from {share.lower:.4f} to {share.upper:.4f} (which counts)"
    if len(shares) > 1:
        detail += f"; best of {len(shares):,} shards {max(share.value for share in shares.values()):.4f}"
    return Gate.of(f"worst_shard_recall_at_{exact.rows.shape[1]}", share.value, bound, detail, counts=share.upper)


def worst_error_gate(gate: str, errors: np.ndarray, bound: float, *, over: str, item_at: Callable[[int], str]) -> Gate:
    """A ceiling for the largest of many errors, of which one that is not a number is larger than any.

    Args:
        gate: Name of the figure.
        errors: (n,), at least one.
        bound: Most that each may be.
        over: What they were taken of.
        item_at: Names the item at a position of `errors`.
    """
    errors = np.round(errors, _DECIMALS) + 0.0  # which makes 0 of what was rounded to -0
    worst = int(np.argmax(errors))  # numpy's maximum is NaN where there is one
    detail = f"largest over {len(errors):,} {over}"
    if errors[worst] != 0:
        detail += f": {item_at(worst)}"
    missed = np.count_nonzero(~(errors <= bound))
    if missed:
        detail += f"; {missed:,} miss the bound"
    return Gate.of(gate, errors[worst], bound, detail)


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
    if before is None:
        return Gate.of(name, figures.mean(), 0.0, f"{detail}; nothing to compare with")
    _, upper = bootstrap_interval(figures - before)
    detail = (
        f"{detail}; published {before.mean():.4f}; the change is at most {upper:+.4f} (95 % interval, which counts)"
    )
    return Gate.of(name, figures.mean(), before.mean() - max_loss, detail, counts=before.mean() + upper)


def judged_floor_gate(recall: np.ndarray, *, items: int, beyond_chance: float) -> Gate:
    """Recall@10 of judged queries against what no model at all would find, whatever is published.

    Args:
        recall: (queries,) recall@10.
        items: Items of the build, of which chance alone finds ten.
        beyond_chance: How much more must be found, as far as the kinder end of a 95 % interval over queries tells.
    """
    chance = min(10, items) / items
    _, upper = bootstrap_interval(recall)
    detail = f"recall@10 is at most {upper:.4f} (95 % interval, which counts); chance finds {chance:.4f}"
    return Gate.of("judged_floor", recall.mean(), chance + beyond_chance, detail, counts=upper)


def drift(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """1 - cosine of each item's old and new vector: (items,) from two (items, dimension) unit-norm arrays."""
    return 1 - (before * after).sum(axis=1)


def lost_neighbours(surviving: np.ndarray, scores: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Old neighbours that are still in the catalog, unchanged, and no longer among an item's nearest: (items, k) bool.

    Args:
        surviving: (items, k) bool: the old neighbour is in both builds with the same content.
        scores: (items, k): its inner product with the item in the new build; read where it survives.
        least: (items,): the new build's k-th score; what reaches it is still a neighbour, ties included.
    """
    return surviving & (scores < least[:, None] - SCORE_TOLERANCE)


def neighbour_churn(surviving: np.ndarray, scores: np.ndarray, least: np.ndarray) -> float:
    """Share of surviving old neighbours that are lost, arguments as of `lost_neighbours`.

    Returns:
        0 (none lost) to 1; 0 when nothing survives, since then the catalog changed and not the index.
    """
    return float(lost_neighbours(surviving, scores, least).sum() / max(1, surviving.sum()))


def category_churn_gate(
    lost: np.ndarray, surviving: np.ndarray, categories: np.ndarray, *, least_items: int, bound: float, blocking: bool
) -> Gate | None:
    """Churn of the category that is surest to have lost neighbours.

    Args:
        lost: (items, k) bool, as `lost_neighbours` gives it.
        surviving: (items, k) bool: the old neighbour is in both builds with the same content.
        categories: (items,).
        least_items: Items that a category needs to be looked at.
        bound: Most churn, by the lower end of its interval over items: the worst of many categories is so by chance.
        blocking: As the gate has it.

    Returns:
        None when no category has items enough.
    """
    shares = {}
    for category in np.unique(categories):
        of_category = categories == category
        share = share_of(lost[of_category].sum(axis=1), surviving[of_category].sum(axis=1))
        if share is not None and share.samples >= least_items:
            shares[category] = share
    if not shares:
        return None
    worst = max(shares, key=lambda category: shares[category].lower)
    share = shares[worst]
    detail = (
        f"{worst}: 95 % interval from {share.lower:.4f} (which counts) to {share.upper:.4f}, {share.samples:,} items; "
        f"{len(shares):,} categories have {least_items} or more"
    )
    return Gate.of("worst_category_churn", share.value, bound, detail, counts=share.lower, blocking=blocking)
