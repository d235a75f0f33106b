"""Searches under conditions are judged by a comparison with every item that meets them."""

import numpy as np
import pytest

from benchmarks.filtered_search import measure, told
from jobs.index.searcher import Searcher
from tests.benchmarks.conftest import CLUSTERED_ITEMS


def test_an_exact_build_has_full_recall_under_every_condition(clustered, clustered_build):
    measured = measure(Searcher.open(str(clustered_build)), clustered, queries=20)
    assert [filtered.recall_at_10 for filtered in measured] == [1.0] * len(measured)
    by_condition = {filtered.condition: filtered.allowed for filtered in measured}
    assert by_condition["none"] == by_condition["price, 100 %"] == CLUSTERED_ITEMS
    for of in ("price", "another category"):
        assert by_condition[f"{of}, 50 %"] == pytest.approx(CLUSTERED_ITEMS / 2, rel=0.1)
        assert by_condition[f"{of}, 1 %"] == pytest.approx(CLUSTERED_ITEMS / 100, rel=0.5)
    table = told(measured, CLUSTERED_ITEMS).splitlines()
    assert len(table) == 2 + len(measured)
    assert table[2].startswith(f"| none | {CLUSTERED_ITEMS:,} | 100.000% | 0 | ")


def test_what_a_search_loses_under_a_condition_is_seen(clustered, clustered_build):
    class Forgetful(Searcher):
        """Finds nothing as soon as a condition says what may be found."""

        def search(self, queries, k, *, exact=False, only=None):
            return super().search(queries, k, exact=exact, only=None if only is None else np.zeros_like(only))

    measured = measure(Forgetful.open(str(clustered_build)), clustered, queries=5)
    recalls = {filtered.condition: filtered.recall_at_10 for filtered in measured}
    assert recalls.pop("none") == 1.0
    assert set(recalls.values()) == {0.0}
