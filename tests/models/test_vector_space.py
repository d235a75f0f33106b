"""Collapse shows: in the dimensions that vectors use, and in the few items that all queries find."""

import numpy as np
import pytest

from models.vector_space import effective_rank, hubness


@pytest.mark.parametrize("dims", [1, 3, 8])
def test_vectors_spread_alike_over_some_dimensions_have_that_effective_rank(dims: int):
    vectors = np.eye(8)[np.arange(240) % dims]
    assert effective_rank(vectors.T @ vectors) == pytest.approx(dims)


def test_effective_rank_is_that_of_the_singular_values_whatever_the_number_of_vectors():
    vectors = np.random.default_rng(0).normal(size=(500, 8)) * np.arange(1, 9)
    shares = np.linalg.svd(vectors, compute_uv=False)
    shares = shares / shares.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert effective_rank(vectors.T @ vectors) == pytest.approx(expected)
    assert effective_rank(vectors.T @ vectors / 500) == pytest.approx(expected)


def test_items_found_equally_often_are_no_hubs():
    assert hubness([["a", "b"], ["c", "d"]], items=4) == (0.0, 0.0)


def test_a_hub_skews_and_leaves_others_unfound():
    skewness, never = hubness([["hub", f"i{n}"] for n in range(10)], items=100)
    times = np.array([10.0] + [1.0] * 10 + [0.0] * 89)
    assert skewness == pytest.approx(((times - times.mean()) ** 3).mean() / times.std() ** 3)
    assert never == 0.89
