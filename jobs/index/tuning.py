"""How hard a build has to be searched: the least effort that reaches the recall asked for, on held-out queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from jobs.index.index_key import IndexKey
from jobs.index.manifest import Effort
from jobs.index.searcher import Neighbours, Searcher
from jobs.index.shard import SCORE_TOLERANCE

# Recall at these depths has to reach the target, less what the deeper one may lose: a page of ten loses less than what
# is fetched for further ranking.
_DEPTHS = {10: 0.0, 100: 0.05}
_DEEPEST = max(_DEPTHS)
_REFINES = (1, 2, 4, 8, 16, 32)
_MOST_CANDIDATES = 1_024
# Reading a vector somewhere else costs as much as reading so many times its bytes in a row.
_SCATTERED = 8
# Efforts are tried two a doubling.
_STEPS_TO_FOURFOLD = 4


@dataclass(frozen=True)
class Tuned:
    """An effort, and what it reached on the queries that it was tuned with.

    Args:
        effort: How hard to search.
        recall: Mean recall by depth.
        reached: Whether that is what was asked for; else the effort is the most that was tried.
    """

    effort: Effort
    recall: dict[int, float]
    reached: bool


def tune(searcher: Searcher, queries: np.ndarray, *, recall_target: float) -> Tuned:
    """Find the effort that reads the fewest bytes of those that reach the target.

    Bytes and not milliseconds decide, so the same build always gets the same effort.

    Args:
        searcher: The build, or some of its shards: with fewer vectors results lie further apart in rank, so what is
            enough there is enough for all.
        queries: (queries, dimension) float32, not those that the gates measure with.
        recall_target: Recall@10 that is to be reached.
    """
    key = IndexKey.parse(searcher.manifest.index_key)
    depths = [k for k in _DEPTHS if k <= len(searcher)] or [len(searcher)]
    exact = searcher.search(queries, max(depths), exact=True)

    def measured(effort: Effort) -> Tuned:
        # Each depth by a search of its own: one for more results works harder, and finds more of the first ones.
        recall = {k: _recall(searcher.search(queries, k, effort=effort), exact, k) for k in depths}
        reached = all(recall[k] >= recall_target - _DEPTHS.get(k, 0) for k in depths)
        return Tuned(effort, recall, reached)

    def cost(effort: Effort) -> float:
        return bytes_read(key, effort, vectors=len(searcher), dimension=searcher.manifest.dimension)

    if not key.lists and not key.links:
        return measured(Effort())
    best: Tuned | None = None
    easiest = 0
    for efforts in _ways(key):
        tried: list[Tuned] = []
        for step in range(easiest, len(efforts)):
            if best is not None and cost(efforts[step]) >= cost(best.effort):
                break
            tried.append(measured(efforts[step]))
            if tried[-1].reached:
                best, easiest = tried[-1], step
                break
            if _is_flat(tried):
                break
        if best is None:  # ways that follow find less
            return tried[-1]
    return best


def bytes_read(key: IndexKey, effort: Effort, *, vectors: int, dimension: int) -> float:
    """About how many bytes a search reads, those that lie scattered counted several times.

    Args:
        key: The kind of index.
        effort: How hard it is searched.
        vectors: How many it holds.
        dimension: Length of each.
    """
    scanned = effort.nprobe * vectors * key.code_bytes(dimension) / max(1, key.lists)
    refined = (effort.refine + effort.ef_search / _DEEPEST) * 4 * dimension * _SCATTERED * _DEEPEST
    return scanned + refined


def _ways(key: IndexKey) -> Iterator[list[Effort]]:
    """Efforts of growing recall, one list for every way to spend them; a way that follows finds less at every step."""
    if key.links:
        yield [Effort(ef_search=candidates) for candidates in _steps(16, _MOST_CANDIDATES)]
        return
    for refine in reversed(_REFINES) if key.refines else (0,):
        yield [Effort(nprobe=lists, refine=refine) for lists in _steps(1, key.lists)]


def _steps(least: int, most: int) -> list[int]:
    """Numbers from the least to the most, two a doubling."""
    steps = (round(least * 2 ** (step / 2)) for step in range(64))
    return [*dict.fromkeys(takewhile(lambda step: step < most, steps)), most]


def _is_flat(tried: list[Tuned]) -> bool:
    """Whether four times the effort has found nothing more, so that what is missing cannot be found this way."""
    return len(tried) > _STEPS_TO_FOURFOLD and tried[-1].recall == tried[-1 - _STEPS_TO_FOURFOLD].recall


def _recall(found: Neighbours, exact: Neighbours, k: int) -> float:
    """Mean recall of k results; what scores as well as the k-th exact result counts."""
    return float((found.scores >= exact.scores[:, k - 1 : k] - SCORE_TOLERANCE).mean())
