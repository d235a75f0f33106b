"""BM25 over titles: the lexical baseline, and two ways to join it with a model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from models.make.text import split_words

K1 = 1.2  # how soon further occurrences of a word stop to count
B = 0.75  # how much a long title is held against its words
# The rank constant of reciprocal-rank fusion: Cormack et al. (2009).
_RRF_CONSTANT = 60


class BM25:
    """Okapi BM25 over the words of titles, normalised as the model's are.

    Source: Robertson and Zaragoza, The Probabilistic Relevance Framework (2009); the inverse document frequency is
    Lucene's, which is never negative.
    """

    def __init__(self, titles: Sequence[str]) -> None:
        self._titles = len(titles)
        words = [split_words(title) for title in titles]
        lengths = np.array([len(title) for title in words], dtype=np.float32)
        penalties = K1 * (1 - B + B * lengths / max(lengths.mean(), 1e-9))
        occurrences: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for row, title in enumerate(words):
            for word, count in Counter(title).items():
                occurrences[word].append((row, count))
        self._postings: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for word, found in occurrences.items():
            rows, counts = np.array(found).T
            idf = np.log1p((self._titles - len(rows) + 0.5) / (len(rows) + 0.5))
            self._postings[word] = rows, (idf * counts * (K1 + 1) / (counts + penalties[rows])).astype(np.float32)

    def scores(self, query: str) -> np.ndarray:
        """(titles,) float32; 0 where a title holds no word of the query."""
        scores = np.zeros(self._titles, dtype=np.float32)
        for word in split_words(query):
            if word in self._postings:
                rows, gains = self._postings[word]
                scores[rows] += gains
        return scores


def reciprocal_ranks(scores: np.ndarray) -> np.ndarray:
    """(items,) scores -> 1 / (60 + rank), what reciprocal-rank fusion adds up; equal scores share the best rank."""
    ordered = np.sort(scores)
    ranks = 1 + len(scores) - np.searchsorted(ordered, scores, side="right")
    return 1.0 / (_RRF_CONSTANT + ranks)


def standard_scores(scores: np.ndarray) -> np.ndarray:
    """(items,) scores -> their z-scores; zeros where all are equal."""
    deviation = scores.std()
    return (scores - scores.mean()) / deviation if deviation > 0 else np.zeros_like(scores)
