"""The job indexes the vectors that autofaiss is given, and both are judged by the same neighbours."""

import numpy as np
import pytest

from benchmarks.index_build import AUTOFAISS, OWN_CHOICE, SAME_KEY, Index, told
from benchmarks.searching import DEEP, Searched, item_search, measure_search
from jobs.index.searcher import Searcher
from tests.benchmarks.conftest import CLUSTERED_ITEMS


def test_the_lake_holds_the_vectors_that_files_hold_and_their_neighbours_are_found(clustered, clustered_build):
    searcher = Searcher.open(str(clustered_build))
    numbers = np.array(searcher.items(["item_id"])["item_id"].to_pylist(), dtype=int)
    assert sorted(numbers) == list(range(CLUSTERED_ITEMS))
    drawn = np.concatenate([block.vectors for block in clustered.blocks(CLUSTERED_ITEMS)])
    np.testing.assert_allclose(searcher.vectors(np.arange(len(searcher))), drawn[numbers], atol=1e-6)
    queries = clustered.queries(30, series=1)
    nearest = clustered.nearest(queries, DEEP, items=CLUSTERED_ITEMS)
    searched = measure_search(item_search(searcher), queries, nearest)
    assert (searched.recall_at_10, searched.recall_at_100) == (1.0, 1.0)
    half = measure_search(lambda queries, k: np.where(np.arange(k) % 2, nearest[:, :k], -1), queries, nearest)
    assert (half.recall_at_10, half.recall_at_100) == (0.5, 0.5)
    assert min(half.alone_ms, half.together_ms) > 0


def test_ratios_are_of_the_same_round():
    def index(seconds, peak, size, recall, shards=1, alike=None):
        searched = Searched(recall, 0.98, 2.0, 1.0)
        return Index("HNSW32", "efSearch=50", shards, seconds, peak << 20, size << 20, searched, alike)

    alike = Searched(0.999, 0.99, 9.0, 8.0)
    building, ratios, searching = told(
        {
            AUTOFAISS: [index(100, 1000, 500, 0.99), index(200, 1000, 500, 0.99)],
            SAME_KEY: [index(80, 1500, 500, 0.97, 8, alike), index(220, 1500, 500, 0.97, 8, alike)],
            OWN_CHOICE: [index(50, 1200, 250, 0.95), index(50, 1200, 250, 0.95)],
        }
    ).split("\n\n")
    assert building.splitlines()[3].endswith("| `HNSW32` | 8 | 150 | 1,500 | 500 |")
    assert ratios.splitlines()[2].endswith("| 0.95 | 0.80 to 1.10 | 1.50 | 1.00 |")
    assert ratios.splitlines()[3].endswith("| 0.38 | 0.25 to 0.50 | 1.20 | 0.50 |")
    assert searching.splitlines()[3].endswith("| `efSearch=50` | 0.9700 | 0.9800 | 2.00 | 1.00 |")
    assert searching.splitlines()[4].endswith("| `efSearch=50` | 0.9990 | 0.9900 | 9.00 | 8.00 |")


def test_a_python_with_autofaiss_has_to_be_named():
    from benchmarks import index_build

    with pytest.raises(SystemExit, match="--peers-python"):
        index_build.main(["--items=10"])
