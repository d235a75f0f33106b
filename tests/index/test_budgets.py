"""A build that costs too much memory, or a person too much time, is known before it is published."""

import itertools

import numpy as np
import pytest

from jobs.index import budgets
from jobs.index.searcher import Searcher


@pytest.fixture
def build(lake, write_build, vectors) -> Searcher:
    rows = np.array(list(vectors.values()))
    return Searcher.open(write_build(lake.path("indexes", "build-test"), rows))


def test_size_is_a_multiple_of_the_vectors_own_bytes(lake, build):
    files = [lake.path("indexes", "build-test", f"shard-0000{number}-of-00002.faiss") for number in (0, 1)]
    size = sum(len(lake.fs.cat_file(file)) for file in files) / (40 * 32 * 4)
    gate = budgets.size_gate(lake, build, 2.0)
    assert (gate.figure, gate.passed) == (pytest.approx(size, abs=1e-6), True)
    assert not budgets.size_gate(lake, build, 1.0).passed


@pytest.mark.parametrize(("slow", "passes"), [(2, True), (10, False)])
def test_a_few_slow_searches_do_not_count_and_one_in_ten_does(build, vectors, monkeypatch, slow, passes):
    """A hundred searches of 5 ms each, and some of them of 500."""
    milliseconds = [500] * slow + [5] * (100 - slow)
    ticks = itertools.chain.from_iterable((0, spent / 1000) for spent in milliseconds)
    monkeypatch.setattr(budgets.time, "perf_counter", lambda: next(ticks))
    queries = np.resize(np.array(list(vectors.values())), (100, 32))
    gate = budgets.latency_gate(build, queries, 100)
    assert gate.passed is passes
    assert gate.detail == "100 searches for 10 results, one at a time; half within 5.00 ms"
