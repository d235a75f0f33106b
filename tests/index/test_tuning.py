"""The effort of a build reaches the recall that was asked for, at each depth that is searched, and is the least."""

import numpy as np
import pytest

from jobs.index.index_key import IndexKey
from jobs.index.manifest import Effort
from jobs.index.searcher import Searcher
from jobs.index.tuning import bytes_read, tune
from tests.builds import unit

DIMENSION = 32


def clustered(rows: int, seed: int) -> np.ndarray:
    """Unit vectors around forty centres."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(40, DIMENSION))
    return unit(centres[random.integers(40, size=rows)] + 0.8 * random.normal(size=(rows, DIMENSION)))


@pytest.fixture(scope="module")
def opened(write_build, tmp_path_factory):
    def build(index_key: str) -> Searcher:
        folder = str(tmp_path_factory.mktemp("build"))
        return Searcher.open(write_build(folder, clustered(3_000, seed=1), index_key=index_key))

    return build


def recall(searcher: Searcher, queries: np.ndarray, k: int, effort: Effort) -> float:
    exact, found = searcher.search(queries, k, exact=True), searcher.search(queries, k, effort=effort)
    return float((found.scores >= exact.scores[:, -1:] - 1e-5).mean())


@pytest.mark.parametrize("index_key", ["IVF64,Flat", "IVF64_HNSW8,Flat", "IVF64,SQ8,RFlat", "HNSW8"])
def test_searches_of_ten_and_of_a_hundred_reach_what_they_are_tuned_to(opened, index_key):
    searcher, queries = opened(index_key), clustered(200, seed=2)
    tuned = tune(searcher, queries, recall_target=0.9)
    assert tuned.reached
    assert tuned.recall == {k: pytest.approx(recall(searcher, queries, k, tuned.effort)) for k in (10, 100)}
    assert tuned.recall[10] >= 0.9
    assert tuned.recall[100] >= 0.85


def test_less_effort_would_not_reach_it(opened):
    searcher, queries = opened("IVF64,Flat"), clustered(200, seed=2)
    least = next(
        nprobe
        for nprobe in (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64)
        if recall(searcher, queries, 10, Effort(nprobe=nprobe)) >= 0.9
        and recall(searcher, queries, 100, Effort(nprobe=nprobe)) >= 0.85
    )
    assert tune(searcher, queries, recall_target=0.9).effort == Effort(nprobe=least)
    assert least > 1, "lists that lose nothing would make this test idle"


def test_of_all_efforts_that_reach_it_none_reads_less(opened):
    searcher, queries = opened("IVF64,PQ4x4fs,RFlat"), clustered(200, seed=2)
    key = IndexKey.parse("IVF64,PQ4x4fs,RFlat")

    def cost(effort: Effort) -> float:
        return bytes_read(key, effort, vectors=3_000, dimension=DIMENSION)

    reaching = [
        effort
        for refine in (1, 2, 4, 8, 16, 32)
        for nprobe in (1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64)
        if recall(searcher, queries, 10, effort := Effort(nprobe=nprobe, refine=refine)) >= 0.9
        and recall(searcher, queries, 100, effort) >= 0.85
    ]
    assert len({effort.refine for effort in reaching}) > 1, "with one way alone this test would be idle"
    assert tune(searcher, queries, recall_target=0.9).effort == min(reaching, key=cost)


def test_a_recall_that_codes_cannot_give_is_told_and_the_best_is_taken(opened, monkeypatch):
    monkeypatch.setattr("jobs.index.tuning._REFINES", (1, 2))
    searcher, queries = opened("IVF64,PQ2x4fs,RFlat"), clustered(200, seed=2)
    tuned = tune(searcher, queries, recall_target=1.0)
    assert not tuned.reached
    assert tuned.effort.refine == 2
    assert 0 < tuned.recall[10] < 1


def test_an_index_that_loses_nothing_needs_no_effort(opened):
    assert tune(opened("Flat"), clustered(20, seed=2), recall_target=1.0).effort == Effort()
