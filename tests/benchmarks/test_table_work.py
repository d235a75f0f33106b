"""The table work that is timed is the job's: every changed item is found, and its vector replaced."""

import pytest

from benchmarks import table_work
from benchmarks.table_work import MODEL, Options, measure, vectors_table
from jobs.embedding.work import stale_items
from schemas import ITEMS


@pytest.mark.slow
def test_every_round_finds_what_it_changed_and_merges_it(lake):
    options = Options.model_construct(items=400, dimension=8, share=0.1, files=2, rounds=2)
    timed = measure(lake, options)
    assert set(timed) == {True, False}
    assert [change.rows for change in timed[True]] == [change.rows for change in timed[False]]
    assert all(20 <= change.rows <= 60 for change in timed[True])
    assert [change.files_removed for change in timed[True]] == [0, 0]
    assert all(change.files_removed > 0 for change in timed[False])
    for deletion_vectors in (True, False):
        vectors = lake.read(vectors_table(deletion_vectors=deletion_vectors))
        assert vectors.count() == 400
        assert stale_items(lake.read(ITEMS), vectors, model_version=MODEL).isEmpty()
    assert "| off | " in table_work.told(timed)
