"""A gate's figure is what its name says, by hand-made cases."""

import numpy as np
import pytest

from jobs.index.gates import (
    CEILINGS,
    Gate,
    category_churn_gate,
    drift,
    judged_floor_gate,
    judged_gate,
    neighbour_churn,
    recall_gate,
    shard_recall_gate,
    share_of,
    worst_error_gate,
)
from jobs.index.searcher import Neighbours


def answers(*scores: list[float]) -> Neighbours:
    return Neighbours(np.array(scores, np.float32), np.zeros((len(scores), len(scores[0])), np.int64))


def test_a_figure_on_its_bound_passes():
    assert Gate.of("coverage", 0.99, 0.99, "").passed
    assert Gate.of("drift", 0.01, 0.01, "").passed
    assert not Gate.of("coverage", 0.9899, 0.99, "").passed
    assert not Gate.of("drift", 0.0101, 0.01, "").passed


@pytest.mark.parametrize("name", ["coverage", *sorted(CEILINGS)])
def test_what_is_not_a_number_misses_its_bound_from_either_side(name: str):
    assert not Gate.of(name, float("nan"), 0.5, "").passed


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


def test_of_many_errors_the_largest_counts_and_one_that_is_no_number_is_the_largest():
    gate = worst_error_gate("norms", np.array([0.0, 0.3, 0.2]), 0.1, over="vectors", item_at="abc".__getitem__)
    assert (gate.figure, gate.passed, gate.detail) == (0.3, False, "largest over 3 vectors: b; 2 miss the bound")
    gate = worst_error_gate("norms", np.array([0.0, 9.0, np.nan]), 0.1, over="vectors", item_at="abc".__getitem__)
    assert np.isnan(gate.figure)
    assert gate.detail == "largest over 3 vectors: c; 2 miss the bound"
    gate = worst_error_gate("norms", np.array([0.0, 1e-9]), 0.1, over="vectors", item_at="ab".__getitem__)
    assert (gate.passed, gate.detail) == (True, "largest over 2 vectors")


def test_a_share_weighs_every_sample_by_its_chances_and_leaves_out_those_without():
    share = share_of(np.array([1, 0, 8]), np.array([2, 0, 8]))
    assert (share.value, share.samples) == (0.9, 2)
    assert (share.lower, share.upper) == (0.5, 1.0)
    assert share_of(np.zeros(3), np.zeros(3)) is None


def test_the_shard_that_misses_results_is_named_though_all_shards_together_are_good():
    """Of each query's four results two lie in shard a, one in b, one in c; the index never finds that of c."""
    queries = 50
    rows = np.tile([0, 1, 10, 20, 2], (queries, 1))
    scores = np.tile(np.float32([0.9, 0.8, 0.7, 0.6, 0.5]), (queries, 1))
    found = Neighbours(scores - [[0, 0, 0, 0.2, 0.2]], np.tile([0, 1, 10, 3, 4], (queries, 1)))
    gate = shard_recall_gate(found, Neighbours(scores, rows), {"a": 10, "b": 10, "c": 10}, bound=0.85)
    assert (gate.gate, gate.figure, gate.passed) == ("worst_shard_recall_at_5", 0.0, False)
    assert gate.detail.startswith("c: 95 % interval from 0.0000 to 0.0000 (which counts)")


def test_of_a_shard_only_what_no_right_answer_does_without_is_asked():
    """Both last results are as good, and each lies in another shard."""
    exact = Neighbours(np.float32([[0.9, 0.8]]), np.array([[0, 1]]))
    twin = Neighbours(np.float32([[0.9, 0.8]]), np.array([[0, 2]]))
    gate = shard_recall_gate(twin, exact, {"a": 2, "b": 2}, bound=1.0)
    assert (gate.figure, gate.passed) == (1.0, True)
    equal = Neighbours(np.float32([[0.9, 0.9]]), np.array([[0, 1]]))
    assert shard_recall_gate(equal, equal, {"a": 2}, bound=1.0) is None


def test_fewer_items_than_places_are_all_asked_of_their_shards():
    exact = Neighbours(np.float32([[0.9, 0.8, -np.inf]]), np.array([[0, 1, -1]]))
    found = Neighbours(np.float32([[0.9, -np.inf, -np.inf]]), np.array([[0, -1, -1]]))
    gate = shard_recall_gate(found, exact, {"a": 1, "b": 1}, bound=0.5)
    assert (gate.figure, gate.passed) == (0.0, False)
    assert gate.detail.startswith("b: ")


def test_a_shard_that_a_few_queries_doubt_is_not_found_wanting():
    """One of two queries finds nothing in the shard: that may be chance."""
    exact = answers([0.9, 0.1], [0.9, 0.1])
    found = Neighbours(exact.scores, np.array([[0, 1], [1, 1]]))
    gate = shard_recall_gate(found, exact, {"a": 2}, bound=0.85)
    assert (gate.figure, gate.passed) == (0.5, True)


def churn_of(lost: list[int], of: int, **options) -> Gate | None:
    """The gate where items of category k lose so many of `of` neighbours each, and those of j none."""
    items = 2 * len(lost)
    surviving = np.ones((items, of), bool)
    gone = np.zeros((items, of), bool)
    for row, count in enumerate(lost):
        gone[row, :count] = True
    categories = np.array(["k"] * len(lost) + ["j"] * len(lost))
    return category_churn_gate(gone, surviving, categories, **{"least_items": 30, "blocking": True, **options})


def test_the_worst_category_blocks_once_its_churn_is_no_chance():
    sure, unsure = churn_of([7] * 40, 10, bound=0.6), churn_of([10, 10, 10, 0] * 10, 10, bound=0.7)
    assert (sure.figure, sure.passed, unsure.figure, unsure.passed) == (0.7, False, 0.75, True)
    assert sure.detail.startswith("k: 95 % interval from 0.7000 (which counts) to 0.7000, 40 items")


def test_a_category_of_few_items_says_nothing():
    assert churn_of([10] * 29, 10, bound=0.6) is None


def test_the_judged_floor_lies_above_what_chance_finds():
    gate = judged_floor_gate(np.full(100, 0.05), items=1_000, beyond_chance=0.05)
    assert (gate.figure, gate.bound, gate.passed) == (0.05, 0.06, False)
    assert judged_floor_gate(np.full(100, 0.06), items=1_000, beyond_chance=0.05).passed
    assert judged_floor_gate(np.full(100, 1.0), items=5, beyond_chance=0.0).passed
