import math

import pytest

from models.retrieval_metrics import mrr, ndcg_at_k, recall_at_k


def test_recall_divides_by_what_the_top_k_can_hold():
    assert recall_at_k([["a", "b", "c"]], [{"a", "x", "y", "z"}], 2) == 0.5
    assert recall_at_k([["a", "b", "c"]], [{"c"}], 2) == 0.0
    assert recall_at_k([["a", "b", "c"], ["c"]], [{"c"}, {"c", "d"}], 3) == pytest.approx((1 + 0.5) / 2)


def test_ndcg_is_one_for_an_ideal_ranking_and_discounts_later_hits():
    assert ndcg_at_k([["a", "b", "x"]], [{"a", "b"}], 10) == 1.0
    assert ndcg_at_k([["x", "a"]], [["a"]], 10) == pytest.approx(1 / math.log2(3))


def test_mrr_is_the_inverse_rank_of_the_first_hit():
    assert mrr([["x", "a"], ["x", "y"]], [{"a"}, {"a"}]) == 0.25


def test_queries_without_relevant_items_are_left_out():
    assert recall_at_k([["a"], ["b"]], [{"a"}, set()], 10) == 1.0


def test_nothing_to_average_is_an_error():
    with pytest.raises(ValueError, match="no query has a relevant item"):
        recall_at_k([["a"]], [set()], 10)
    with pytest.raises(ValueError, match="as many rankings as judgments"):
        mrr([["a"]], [])
