"""What a night did to items that did not change is measured on all of them, and in every category."""

import numpy as np
import pytest

from jobs.index.comparison import comparison_gates, unchanged_items
from jobs.index.searcher import Searcher
from tests.builds import unit

BOUNDS = {"max_drift": 0.01, "max_churn": 0.5, "max_category_churn": 0.6}


@pytest.fixture
def build_of(write_build, tmp_path):
    """Writes and opens a build: `build_of("build-a", rows)`."""

    def build(build_id, rows, **written) -> Searcher:
        return Searcher.open(write_build(str(tmp_path / build_id), rows, build_id=build_id, **written))

    return build


@pytest.fixture
def rows() -> np.ndarray:
    return unit(np.random.default_rng(3).normal(size=(2_000, 16)))


def test_items_are_matched_by_id_and_content_whatever_their_order(build_of, rows):
    old, new = build_of("build-old", rows[:50], shards=3), build_of("build-new", rows[:40])
    unchanged = unchanged_items(old, new)
    before, after = (
        build.items(["item_id"])["item_id"].take(places)
        for build, places in ((old, unchanged.before), (new, unchanged.after))
    )
    assert before == after
    assert sorted(after.to_pylist()) == sorted(str(row) for row in range(40))
    assert sorted(unchanged.row_after)[:11] == [-1] * 10 + [0]
    assert (unchanged.row_after[unchanged.before] == unchanged.after).all()


@pytest.mark.parametrize("moved", [7, 1_950])
def test_one_moved_vector_among_thousands_is_found_and_named(build_of, rows, moved):
    after = rows.copy()
    after[moved] = unit(rows[moved : moved + 1] + 0.1 * rows[:1])[0]
    drift = comparison_gates(build_of("build-old", rows), build_of("build-new", after), **BOUNDS)[0]
    assert drift.gate == "drift"
    assert drift.figure == pytest.approx(1 - rows[moved] @ after[moved], abs=1e-6)
    assert f"largest over 2,000 unchanged items, against build-old: {moved} of {'cd'[moved % 2]}" in drift.detail


def test_a_category_that_lost_its_neighbours_blocks_though_the_catalog_as_a_whole_did_not(build_of, rows):
    """Odd items, which are of category d, go where no item of category c is, and there each takes another's place."""
    rows = np.concatenate([rows, np.zeros_like(rows)], axis=1)
    rows[1::2] = np.roll(rows[1::2], 16, axis=1)
    after = rows.copy()
    after[1::2] = np.random.default_rng(5).permutation(rows[1::2])
    old, new = build_of("build-old", rows), build_of("build-new", after)
    overall, worst = comparison_gates(old, new, **BOUNDS)[1:]
    assert (overall.gate, worst.gate) == ("neighbour_churn", "worst_category_churn")
    assert 0.4 < overall.figure < 0.6
    assert worst.detail.startswith("d: 95 % interval from 0.9")
    assert "2 categories have 30 or more" in worst.detail
    assert (worst.passed, worst.blocking) == (False, True)


def test_across_models_no_drift_is_told_and_no_churn_blocks(build_of, rows):
    other = build_of("build-new", unit(np.random.default_rng(9).normal(size=rows.shape)), model_version="make-next")
    gates = comparison_gates(build_of("build-old", rows), other, **BOUNDS)
    assert [(gate.gate, gate.passed, gate.blocking) for gate in gates] == [
        ("neighbour_churn", False, False),
        ("worst_category_churn", False, False),
    ]
