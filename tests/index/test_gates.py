"""A gate's figure is what its name says, by hand-made cases."""

import numpy as np
import pytest

from jobs.index.gates import at_least, at_most, drift, judged_gate, neighbour_churn, recall_gate
from jobs.index.searcher import Neighbours


def answers(*scores: list[float]) -> Neighbours:
    return Neighbours(np.array(scores, np.float32), np.zeros((len(scores), len(scores[0])), np.int64))


def test_a_figure_on_its_bound_passes():
    assert at_least("coverage", 0.99, 0.99, "").passed
    assert at_most("drift", 0.01, 0.01, "").passed
    assert not at_least("coverage", 0.9899, 0.99, "").passed
    assert not at_most("drift", 0.0101, 0.01, "").passed


def test_recall_counts_results_as_good_as_the_last_exact_one():
    exact = answers([0.9, 0.8], [0.9, 0.7])
    found = answers([0.9, 0.5], [0.9, 0.7])
    assert recall_gate(found, exact, k=2, bound=0.5, source="queries").figure == 0.75
    assert recall_gate(found, exact, k=1, bound=1.0, source="queries").passed


def test_equally_good_items_are_no_loss_of_recall():
    exact = Neighbours(np.array([[0.9, 0.8]], np.float32), np.array([[1, 2]]))
    twin = Neighbours(np.array([[0.9, 0.8]], np.float32), np.array([[1, 3]]))
    assert recall_gate(twin, exact, k=2, bound=1.0, source="queries").figure == 1.0


def test_recall_passes_on_the_lower_end_of_its_interval_not_on_its_mean():
    exact = answers(*[[0.9]] * 20)
    found = answers(*[[0.9]] * 19, [0.1])
    gate = recall_gate(found, exact, k=1, bound=0.95, source="queries")
    assert gate.figure == pytest.approx(0.95)
    assert not gate.passed
    assert "95 % interval from 0.8500 (which counts) to 1.0000" in gate.detail


@pytest.mark.parametrize(("queries", "passes"), [(20, True), (2000, False)])
def test_a_loss_of_judged_quality_blocks_once_it_is_no_chance(queries: int, passes: bool):
    """One query in twenty is lost: among twenty that may be chance, among two thousand it is not."""
    before = np.ones(queries)
    after = np.where(np.arange(queries) % 20 == 0, 0.0, 1.0)
    gate = judged_gate("judged_recall_at_10", after, before, max_loss=0.02, detail="queries")
    assert (gate.figure, gate.bound, gate.passed) == (0.95, 0.98, passes)
    assert "published 1.0000" in gate.detail


def test_a_loss_within_the_bound_passes_however_sure_it_is():
    before = np.ones(5000)
    assert judged_gate("ndcg", before - 0.019, before, max_loss=0.02, detail="").passed
    assert not judged_gate("ndcg", before - 0.021, before, max_loss=0.02, detail="").passed


def test_without_a_published_build_judged_quality_is_told_and_cannot_fail():
    gate = judged_gate("ndcg", np.zeros(10), None, max_loss=0.02, detail="10 judged queries")
    assert gate.passed
    assert gate.detail == "10 judged queries; nothing to compare with"


def test_drift_is_one_minus_cosine():
    before, after = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(drift(before, after), [0, 1])


def test_churn_counts_only_neighbours_that_could_have_stayed():
    surviving = np.array([[True, True, False], [True, False, False]])
    scores = np.array([[0.9, 0.2, -np.inf], [0.5, -np.inf, -np.inf]])
    least = np.array([0.4, 0.5])
    assert neighbour_churn(surviving, scores, least) == pytest.approx(1 / 3)
    assert neighbour_churn(np.zeros((2, 3), bool), scores, least) == 0
