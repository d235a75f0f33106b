import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.bm25 import BM25, K1, B, reciprocal_ranks, standard_scores
from benchmarks.judged import read_catalog, read_judged
from models.retrieval_metrics import ndcg_at_k, recall_at_k

TITLES = ["Red dress", "Blue dress, blue belt", "", "RED shoes for the red carpet"]


def slow_score(query: str, title: str) -> float:
    """The definition, a word at a time."""
    words = [text.lower().replace(",", "").split() for text in TITLES]
    own = title.lower().replace(",", "").split()
    score = 0.0
    for word in query.split():
        holders = sum(word in text for text in words)
        if holders == 0:
            continue
        idf = math.log(1 + (len(TITLES) - holders + 0.5) / (holders + 0.5))
        often, mean_length = own.count(word), sum(map(len, words)) / len(words)
        score += idf * often * (K1 + 1) / (often + K1 * (1 - B + B * len(own) / mean_length))
    return score


@pytest.mark.parametrize("query", ["red dress", "blue", "red red", "hat", ""])
def test_scores_equal_their_definition(query):
    expected = [slow_score(query, title) for title in TITLES]
    assert BM25(TITLES).scores(query) == pytest.approx(expected, rel=1e-5)


def test_reciprocal_ranks_follow_the_order_and_ties_share_the_best_rank():
    assert reciprocal_ranks(np.array([0.0, 3.0, 0.0, 1.0])) == pytest.approx([1 / 63, 1 / 61, 1 / 63, 1 / 62])


def test_standard_scores_have_mean_zero_and_deviation_one_or_are_all_zero():
    scores = standard_scores(np.array([1.0, 2.0, 4.0]))
    assert (scores.mean(), scores.std()) == pytest.approx((0, 1))
    assert (standard_scores(np.ones(3)) == 0).all()


def test_the_lexical_bar_of_the_real_catalog_is_met(fashion):
    catalog = read_catalog(fashion / "catalog.parquet", fashion / "images.parquet")
    queries = read_judged(fashion / "dev_queries.parquet", fashion / "dev_qrels.parquet", catalog)
    assert len(queries) == pq.read_metadata(fashion / "dev_queries.parquet").num_rows
    bm25 = BM25(catalog.titles)
    ranked = [catalog.best(bm25.scores(query.query)) for query in queries]
    relevant = [set(query.relevant) for query in queries]
    # What the catalog's makers report of theirs; this one must be no weaker, and no other thing.
    found = [recall_at_k(ranked, relevant, 10), recall_at_k(ranked, relevant, 100), ndcg_at_k(ranked, relevant, 10)]
    for values, theirs in zip(found, (0.349, 0.534, 0.350), strict=True):
        assert theirs <= values.mean() <= theirs + 0.015
