"""Made-up vectors are the same wherever they are drawn, lie in clusters, and their neighbours are the true ones."""

import numpy as np
import pytest

from benchmarks.clustered import BLOCK, CATEGORY_SHARES, ClusteredVectors

ITEMS, DIMENSION = BLOCK + 2_000, 64


@pytest.fixture(scope="module")
def clustered() -> ClusteredVectors:
    return ClusteredVectors(dimension=DIMENSION)


@pytest.fixture(scope="module")
def vectors(clustered) -> np.ndarray:
    return np.concatenate([block.vectors for block in clustered.blocks(ITEMS)])


def best_cosines(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return (queries @ vectors.T).max(axis=1)


def test_an_item_is_the_same_wherever_it_is_drawn(clustered, vectors):
    again = ClusteredVectors(dimension=DIMENSION)
    np.testing.assert_array_equal(again.block(1).vectors[:2_000], vectors[BLOCK:])
    assert not np.allclose(ClusteredVectors(dimension=DIMENSION, seed=1).block(0).vectors, vectors[:BLOCK], atol=0.1)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_queries_are_drawn_as_items_are_and_are_none(clustered, vectors):
    queries = clustered.queries(500)
    assert best_cosines(queries, vectors).max() < 1 - 1e-6
    of_items = np.sort(vectors[:500] @ vectors.T, axis=1)[:, -2].mean()
    assert best_cosines(queries, vectors).mean() == pytest.approx(of_items, abs=0.02)
    uniform = np.random.default_rng(0).standard_normal((500, DIMENSION))
    uniform /= np.linalg.norm(uniform, axis=1, keepdims=True)
    assert best_cosines(uniform, vectors).mean() < of_items - 0.05
    assert not np.array_equal(clustered.queries(500, series=1), queries)


def test_a_category_has_about_its_share_and_is_asked_for_from_elsewhere(clustered, vectors):
    clusters = np.concatenate([block.clusters for block in clustered.blocks(10 * BLOCK)])
    categories = clustered.categories[clusters]
    for name, share in CATEGORY_SHARES.items():
        assert (categories == name).mean() == pytest.approx(share, rel=0.3, abs=2e-4)
    own, other = (clustered.queries(200, category=name) for name in ("1 %", "all others"))
    of_category = vectors[clustered.categories[clusters[:ITEMS]] == "1 %"]
    assert best_cosines(own, of_category).mean() > best_cosines(other, of_category).mean() + 0.1


def test_the_nearest_are_those_of_a_comparison_with_every_allowed_item(clustered, vectors):
    queries = clustered.queries(20)
    np.testing.assert_array_equal(
        clustered.nearest(queries, 10, items=ITEMS), np.argsort(-queries @ vectors.T, axis=1)[:, :10]
    )
    allowed = np.zeros(ITEMS, dtype=bool)
    few = np.array([7, BLOCK - 1, BLOCK, ITEMS - 1])
    allowed[few] = True
    np.testing.assert_array_equal(
        clustered.nearest(queries, 10, items=ITEMS, allowed=allowed),
        few[np.argsort(-queries @ vectors[few].T, axis=1)],
    )
