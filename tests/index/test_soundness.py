"""A build that is not what it says is known before anything is measured of it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs.index.searcher import Searcher
from jobs.index.shard import vectors_of
from jobs.index.soundness import norm_gate, open_sound, sampled_rows
from tests.builds import rewrite, rewrite_items

ROW = {"build_id": "build-test", "model_version": "make-test", "items": 40}


@pytest.fixture
def folder(write_build, vectors, tmp_path) -> Path:
    return Path(write_build(str(tmp_path / "build"), np.array(list(vectors.values()))))


def test_a_sound_build_is_opened_and_says_so(folder):
    searcher, gates = open_sound(str(folder), ROW)
    assert len(searcher) == 40
    assert [(gate.gate, gate.figure, gate.passed) for gate in gates] == [("integrity", 1, True), ("pairing", 1, True)]


def garbage(folder: Path) -> None:
    """What FAISS cannot read, under a digest that fits."""
    rewrite(folder, "shard-00000-of-00002.faiss", b"garbage" * 99)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / "shard-00001-of-00002.items.parquet").unlink(), "items.parquet is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json does not parse"),
        (garbage, "FAISS cannot read a shard"),
    ],
    ids=["a file is missing", "no manifest", "a manifest of something else", "no index"],
)
def test_a_build_that_cannot_be_opened_misses_integrity_and_nothing_else_is_measured(folder, harm, says):
    harm(folder)
    searcher, (gate,) = open_sound(str(folder), ROW)
    assert searcher is None
    assert (gate.gate, gate.figure, gate.bound, gate.passed, gate.blocking) == ("integrity", 0, 1, False, True)
    assert says in gate.detail


@pytest.mark.parametrize("other", [{"build_id": "build-b"}, {"model_version": "make-b"}, {"items": 39}])
def test_another_builds_folder_under_this_ones_name_misses_integrity(folder, other):
    searcher, (gate,) = open_sound(str(folder), ROW | other)
    assert (searcher, gate.passed) == (None, False)
    assert "got build-test of make-test with 40 items: the folder is another build's" in gate.detail


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 39])
def test_a_vector_that_is_not_finite_misses_the_norms_bound_in_whichever_batch_it_lies(folder, value, row):
    def poisoned(items: pa.Table) -> pa.Table:
        rows = vectors_of(items).copy()
        rows[pc.equal(items["item_id"], str(row)).to_numpy(), 0] = value
        return items.set_column(items.column_names.index("embedding"), "embedding", [list(rows)])

    rewrite_items(folder, poisoned)
    gate = norm_gate(Searcher.open(str(folder)), 0.001)
    assert not gate.passed
    assert not np.isfinite(gate.figure)
    assert f"{row} of {'cd'[row % 2]}; 1 miss the bound" in gate.detail


def test_a_sample_has_a_row_of_every_equal_stretch_and_is_the_same_every_time():
    rows = sampled_rows(640, 64)
    assert (rows // 10 == np.arange(64)).all()
    assert len(set(rows % 10)) > 1
    assert (rows == sampled_rows(640, 64)).all()
    assert sampled_rows(5, 64).tolist() == [0, 1, 2, 3, 4]
