"""Two models on the same queries: what changed, and whether chance alone would explain it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.retrieval_metrics import bootstrap_interval

# A bootstrap over fewer queries has too narrow intervals: a slice of fewer decides nothing.
ENOUGH_QUERIES = 20


@dataclass(frozen=True)
class Difference:
    """A measure of a slice under both models.

    Args:
        queries: How many the slice has.
        champion, challenger: Means over the slice's queries.
        lower, upper: Ends of the interval of challenger - champion, paired by query.
    """

    queries: int
    champion: float
    challenger: float
    lower: float
    upper: float

    @classmethod
    def between(cls, champion: np.ndarray, challenger: np.ndarray, *, level: float) -> Difference:
        """The difference of two models' (queries,) values, in the same order; `level` is the interval's, 0..1."""
        interval = bootstrap_interval(challenger - champion, level=level)
        return cls(len(champion), float(champion.mean()), float(challenger.mean()), *interval)

    @property
    def change(self) -> float:
        """Challenger minus champion."""
        return self.challenger - self.champion

    @property
    def verdict(self) -> str:
        """better or worse when the whole interval of enough queries says so, else open."""
        if self.queries < ENOUGH_QUERIES:
            return "open"
        return "better" if self.lower > 0 else "worse" if self.upper < 0 else "open"


def joint_level(slices: int) -> float:
    """The level of each slice's interval that makes 95 % for all of them together (Bonferroni).

    With twenty slices, one would else be expected to look decided by chance.
    """
    return 1 - 0.05 / slices
