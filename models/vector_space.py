"""Whether the vectors of a catalog use the space that they have: two figures in which a collapse shows; pure numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np


def effective_rank(second_moment: np.ndarray) -> float:
    """In how many dimensions vectors spread: exp of the entropy of their singular values, these made to sum to 1.

    Args:
        second_moment: (dim, dim), the sum or mean of x x^T over the vectors.

    Returns:
        1 when all vectors lie on a line, dim when every direction holds as much.

    Source: Roy and Vetterli, The effective rank (2007).
    """
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(second_moment), 0.0, None))
    shares = singular[singular > 0] / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def hubness(found: Sequence[Sequence[Hashable]], *, items: int) -> tuple[float, float]:
    """How unevenly results fall on items.

    Args:
        found: The nearest items of each query, as many as shall count.
        items: How many there are to be found.

    Returns:
        The skewness over all items of how often one is found (0 when all are found equally often), and the share of
        items that no query finds, which is at least 1 - results / items.

    Source: Radovanovic, Nanopoulos and Ivanovic, Hubs in space (2010).
    """
    times = np.zeros(items)
    counts = list(Counter(item for results in found for item in results).values())
    times[: len(counts)] = counts
    deviations = times - times.mean()
    spread = times.std()
    skewness = (deviations**3).mean() / spread**3 if spread > 0 else 0.0
    return float(skewness), float((times == 0).mean())
