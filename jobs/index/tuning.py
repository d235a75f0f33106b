"""How hard a build has to be searched: the least effort that reaches the recall asked for, on held-out queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    depth = min(_DEEPEST, len(searcher))
    exact = searcher.search(queries, depth, exact=True)

    def measured(effort: Effort) -> Tuned:
        recall = _recall(searcher.search(queries, depth, effort=effort), exact)
        reached = all(recall[k] >= recall_target - less for k, less in _DEPTHS.items() if k in recall)
        return Tuned(effort, recall, reached)

    if not key.lists and not key.links:
        return measured(Effort())
    scanned = len(searcher) * key.code_bytes(searcher.manifest.dimension) / max(1, key.lists)
    refined = 4 * searcher.manifest.dimension * _SCATTERED * _DEEPEST

    def bytes_read(tuned: Tuned) -> float:
        effort = tuned.effort
        return effort.nprobe * scanned + (effort.refine + effort.ef_search / _DEEPEST) * refined

    tried = [_least(efforts, measured) for efforts in _ways(key)]
    enough = [tuned for tuned in tried if tuned.reached]
    return min(enough, key=bytes_read) if enough else max(tried, key=lambda tuned: tuned.recall[min(tuned.recall)])


def _ways(key: IndexKey) -> Iterator[list[Effort]]:
    """Efforts of growing recall, one list for every way to spend them."""
    if key.links:
        yield [Effort(ef_search=candidates) for candidates in _steps(16, _MOST_CANDIDATES)]
        return
    for refine in _REFINES if key.refines else (0,):
        yield [Effort(nprobe=lists, refine=refine) for lists in _steps(1, key.lists)]


def _steps(least: int, most: int) -> list[int]:
    """Numbers from the least to the most, two a doubling."""
    steps = (round(least * 2 ** (step / 2)) for step in range(64))
    return [*dict.fromkeys(takewhile(lambda step: step < most, steps)), most]


def _least(efforts: list[Effort], measured: Callable[[Effort], Tuned]) -> Tuned:
    """The first of efforts of growing recall that reaches the target; the last that was tried where none does."""
    tried: list[Tuned] = []
    for effort in efforts:
        tried.append(measured(effort))
        if tried[-1].reached or _is_flat(tried):
            break
    return tried[-1]


def _is_flat(tried: list[Tuned]) -> bool:
    """Whether four times the effort has found nothing more, so that what is missing cannot be found this way."""
    return len(tried) > _STEPS_TO_FOURFOLD and tried[-1].recall == tried[-1 - _STEPS_TO_FOURFOLD].recall


def _recall(found: Neighbours, exact: Neighbours) -> dict[int, float]:
    """Mean recall at every depth that there is; what scores as well as the last exact result counts."""
    depths = [k for k in _DEPTHS if k <= exact.scores.shape[1]] or [exact.scores.shape[1]]
    least = {k: exact.scores[:, k - 1 : k] - SCORE_TOLERANCE for k in depths}
    return {k: float((found.scores[:, :k] >= least[k]).mean()) for k in depths}
