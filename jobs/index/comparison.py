"""A build against the published one: drift of unchanged items' vectors, and churn of their neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.index.gates import (
    Gate,
    category_churn_gate,
    drift,
    lost_neighbours,
    neighbour_churn,
    worst_error_gate,
)
from jobs.index.searcher import Searcher
from jobs.index.soundness import NO_CATEGORY, item_name

# Vectors that are compared between two builds: of so many, one build's are held in memory.
_DRIFT_ITEMS = 100_000
# Items whose neighbours are searched for in both builds; of a category, no fewer say anything about it.
_CHURN_ITEMS = 1_000
_CATEGORY_ITEMS = 30
_CHURN_DEPTH = 10


@dataclass(frozen=True)
class UnchangedItems:
    """Items that two builds hold with the same content, in an order of chance: any first few are a sample.

    Args:
        before: Their rows in the old build.
        after: Their rows in the new build.
        row_after: For every row of the old build its row in the new one; -1 where gone or changed.
    """

    before: np.ndarray
    after: np.ndarray
    row_after: np.ndarray

    def __len__(self) -> int:
        return len(self.before)


def unchanged_items(old: Searcher, new: Searcher) -> UnchangedItems:
    """Match two builds by item_id and content_hash."""
    key = ["item_id", "content_hash"]
    olds, news = (
        build.items(key).append_column(name, pa.array(np.arange(len(build))))
        for build, name in ((old, "before"), (new, "after"))
    )
    # Sorted, because a join gives its rows in any order.
    both = olds.join(news, keys=key, join_type="inner").select(["before", "after"]).sort_by("before")
    before, after = both["before"].to_numpy(), both["after"].to_numpy()
    row_after = np.full(len(old), -1)
    row_after[before] = after
    by_chance = np.random.default_rng(0).permutation(len(both))
    return UnchangedItems(before[by_chance], after[by_chance], row_after)


def comparison_gates(
    old: Searcher, new: Searcher, *, max_drift: float, max_churn: float, max_category_churn: float
) -> list[Gate]:
    """Drift of unchanged items' vectors and churn of their neighbours since the published build.

    Across model versions the space is new: drift means nothing there, and churn is told but does not block.
    """
    unchanged = unchanged_items(old, new)
    if len(unchanged) == 0:
        return []
    gates = []
    if old.manifest.model_version == new.manifest.model_version:
        gates.append(drift_gate(old, new, unchanged, bound=max_drift))
    return gates + churn_gates(old, new, unchanged, max_churn=max_churn, max_category_churn=max_category_churn)


def drift_gate(old: Searcher, new: Searcher, unchanged: UnchangedItems, *, bound: float) -> Gate:
    """How far the vectors of unchanged items have moved."""
    order = np.argsort(unchanged.after[:_DRIFT_ITEMS])
    before, after = unchanged.before[order], unchanged.after[order]
    olds = old.vectors(before)
    errors = np.empty(len(after), dtype=np.float32)
    for start, vectors in new.iterate_vectors():
        part = slice(*np.searchsorted(after, [start, start + len(vectors)]))
        errors[part] = drift(olds[part], vectors[after[part] - start])
    over = f"unchanged items, against {old.manifest.build_id}"
    return worst_error_gate("drift", errors, bound, over=over, item_at=lambda place: item_name(new, after[place]))


def churn_gates(
    old: Searcher, new: Searcher, unchanged: UnchangedItems, *, max_churn: float, max_category_churn: float
) -> list[Gate]:
    """How many of unchanged items' nearest neighbours were displaced, overall and in the worst category."""
    before, after = unchanged.before[:_CHURN_ITEMS], unchanged.after[:_CHURN_ITEMS]
    vectors = new.vectors(after)
    # An item is its own nearest neighbour in both builds, so one place more is looked at.
    old_rows = old.search(old.vectors(before), _CHURN_DEPTH + 1).rows
    rows = np.where(old_rows >= 0, unchanged.row_after[old_rows], -1)
    surviving = (rows >= 0) & (rows != after[:, None])
    scores = np.full(rows.shape, -np.inf)
    scores[surviving] = (new.vectors(rows[surviving]) * vectors[np.nonzero(surviving)[0]]).sum(axis=1)
    least = new.search(vectors, _CHURN_DEPTH + 1).scores[:, -1]

    blocking = old.manifest.model_version == new.manifest.model_version
    detail = f"mean over {len(after):,} unchanged items, against {old.manifest.build_id}"
    if not blocking:
        detail += "; another model, so it does not block"
    churn = neighbour_churn(surviving, scores, least)
    overall = Gate.of("neighbour_churn", churn, max_churn, detail, blocking=blocking)
    by_category = category_churn_gate(
        lost_neighbours(surviving, scores, least),
        surviving,
        pc.fill_null(new.items(["category"])["category"].take(after), NO_CATEGORY).to_numpy(),
        least_items=_CATEGORY_ITEMS,
        bound=max_category_churn,
        blocking=blocking,
    )
    return [overall] if by_category is None else [overall, by_category]
