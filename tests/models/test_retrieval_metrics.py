import math

import numpy as np
import pytest

from models.retrieval_metrics import bootstrap_interval, ndcg_at_k, recall_at_k, reciprocal_rank


def test_recall_divides_by_what_the_top_k_can_hold():
    assert recall_at_k([["a", "b", "c"]], [{"a", "x", "y", "z"}], 2).tolist() == [0.5]
    assert recall_at_k([["a", "b", "c"]], [{"c"}], 2).tolist() == [0.0]
    assert recall_at_k([["a", "b", "c"], ["c"]], [{"c"}, {"c", "d"}], 3).tolist() == [1, 0.5]


def test_ndcg_is_one_for_an_ideal_ranking_and_discounts_later_hits():
    assert ndcg_at_k([["a", "b", "x"]], [{"a", "b"}], 10) == 1.0
    assert ndcg_at_k([["x", "a"]], [["a"]], 10) == pytest.approx(1 / math.log2(3))


def test_reciprocal_rank_is_of_the_first_hit():
    assert reciprocal_rank([["x", "a"], ["x", "y"]], [{"a"}, {"a"}]).tolist() == [0.5, 0]


def test_what_cannot_be_measured_is_an_error():
    with pytest.raises(ValueError, match="query 1 has no relevant item"):
        recall_at_k([["a"], ["b"]], [{"a"}, set()], 10)
    with pytest.raises(ValueError, match="as many rankings as judgments"):
        reciprocal_rank([["a"]], [])


def test_the_interval_of_a_mean_is_as_wide_as_its_normal_approximation():
    values = np.random.default_rng(1).normal(size=400)
    lower, upper = bootstrap_interval(values)
    error = values.std() / math.sqrt(len(values))
    assert lower == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert upper == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)
    assert bootstrap_interval(values) == (lower, upper)


def test_the_ends_of_a_strict_interval_are_no_extremes_of_a_few_draws():
    values = np.random.default_rng(1).normal(size=400)
    lower, upper = bootstrap_interval(values, level=1 - 0.05 / 27)
    error = values.std() / math.sqrt(len(values))
    assert lower == pytest.approx(values.mean() - 3.11 * error, abs=0.2 * error)
    assert upper == pytest.approx(values.mean() + 3.11 * error, abs=0.2 * error)
