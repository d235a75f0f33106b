"""The searcher's answers are those of a brute-force comparison, however the build is cut, and of no tampered file."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pytest

from jobs.index.filters import ItemFilter
from jobs.index.manifest import BuildIntegrityError, Current, Manifest
from jobs.index.searcher import Searcher

DIMENSION = 16
DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "index.md"


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return unit(np.random.default_rng(0).normal(size=(500, DIMENSION)))


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return unit(np.random.default_rng(1).normal(size=(20, DIMENSION)))


def found_ids(searcher: Searcher, queries: np.ndarray, k: int, *, exact: bool = False) -> np.ndarray:
    ids = np.array(searcher.items(["item_id"])["item_id"].to_pylist(), dtype=int)
    return ids[searcher.search(queries, k, exact=exact).rows]


@pytest.mark.parametrize("shards", [1, 2, 7])
@pytest.mark.parametrize("exact", [False, True])
def test_the_number_of_shards_does_not_change_results(write_build, tmp_path, vectors, queries, shards, exact):
    searcher = Searcher.open(write_build(str(tmp_path), vectors, shards=shards))
    brute_force = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    np.testing.assert_array_equal(found_ids(searcher, queries, 10, exact=exact), brute_force)


def test_inverted_lists_give_the_same_results_in_one_shard_and_in_many(write_build, tmp_path, vectors, queries):
    one, many = (
        Searcher.open(
            write_build(str(tmp_path / str(shards)), vectors, shards=shards, index_key="IVF16,Flat", nprobe=4)
        )
        for shards in (1, 5)
    )
    np.testing.assert_array_equal(found_ids(one, queries, 10), found_ids(many, queries, 10))
    exact = found_ids(one, queries, 10, exact=True)
    assert (exact != found_ids(one, queries, 10)).any(), "lists that lose nothing would make this test idle"


KINDS = [
    {"index_key": "Flat"},
    {"index_key": "IVF16,Flat", "nprobe": 2},
    {"index_key": "IVF16_HNSW4,Flat", "nprobe": 2},
    {"index_key": "IVF16,SQ8,RFlat", "nprobe": 2},
    {"index_key": "IVF16,PQ8x4fs,RFlat", "nprobe": 2},
    {"index_key": "IVF16,RaBitQ2,RFlat", "nprobe": 2},
    {"index_key": "HNSW4", "ef_search": 16},
]


@pytest.fixture(scope="module")
def searcher_of(write_build, tmp_path_factory, vectors):
    """A build of `vectors` of some kind, opened; made once a kind and number of shards."""

    @functools.cache
    def build(index_key, shards) -> Searcher:
        (kind,) = (kind for kind in KINDS if kind["index_key"] == index_key)
        return Searcher.open(write_build(str(tmp_path_factory.mktemp("build")), vectors, shards=shards, **kind))

    return build


@pytest.mark.parametrize("index_key", [kind["index_key"] for kind in KINDS])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("share", [0.5, 0.02, 0.0])
@pytest.mark.parametrize("exact", [False, True])
def test_among_few_rows_the_best_are_found_however_far_they_are(
    searcher_of, vectors, queries, index_key, shards, share, exact
):
    searcher = searcher_of(index_key, shards)
    only = np.random.default_rng(2).random(len(vectors)) < share
    found = searcher.search(queries, 10, exact=exact, only=only)
    ids = np.array(searcher.items(["item_id"])["item_id"].to_pylist(), dtype=int)
    scores = queries @ vectors[ids].T
    scores[:, ~only] = -np.inf
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    best = np.take_along_axis(scores, expected, axis=1)
    np.testing.assert_array_equal(found.rows, np.where(np.isneginf(best), -1, expected))
    np.testing.assert_allclose(found.scores, best, atol=1e-6)


@pytest.mark.parametrize("index_key", [kind["index_key"] for kind in KINDS[1:-1]])
def test_among_many_rows_the_lists_that_hold_some_are_read_however_far_they_are(
    searcher_of, vectors, queries, index_key, monkeypatch
):
    monkeypatch.setattr("jobs.index.searcher.EXACT_BELOW", 1)
    searcher = searcher_of(index_key, 3)
    stored = searcher.vectors(np.arange(len(searcher)))
    # Only what points away from the query may be found: the lists that it is near to hold none of it.
    recalls = []
    for query in queries:
        only = stored @ query < -0.1
        found = searcher.search(query[None], 10, only=only).rows[0]
        assert (found >= 0).all()
        assert only[found].all()
        recalls.append(np.isin(found, np.argsort(np.where(only, -stored @ query, np.inf))[:10]).mean())
    assert np.mean(recalls) > 0.2


def test_lists_that_are_empty_in_a_shard_are_passed_over(write_build, tmp_path, vectors, queries, monkeypatch):
    monkeypatch.setattr("jobs.index.searcher.EXACT_BELOW", 1)
    searcher = Searcher.open(write_build(str(tmp_path), vectors[:40], shards=5, index_key="IVF16,Flat", nprobe=16))
    only = np.arange(40) % 2 == 0
    stored = searcher.vectors(np.arange(40))
    expected = np.argsort(np.where(only, -queries @ stored.T, np.inf), axis=1)[:, :10]
    np.testing.assert_array_equal(searcher.search(queries, 10, only=only).rows, expected)


@pytest.mark.parametrize("index_key", [kind["index_key"] for kind in KINDS[1:-1]])
def test_among_many_rows_a_search_finds_what_one_among_all_does(searcher_of, vectors, queries, index_key, monkeypatch):
    searcher = searcher_of(index_key, 3)
    only = np.random.default_rng(2).random(len(vectors)) < 0.5
    few = searcher.search(queries, 10, only=only)
    monkeypatch.setattr("jobs.index.searcher.EXACT_BELOW", 1)
    many = searcher.search(queries, 10, only=only)
    assert only[many.rows[many.rows >= 0]].all()
    assert (many.rows != few.rows).any(), "an index that loses nothing would make this test idle"
    among_all = searcher.search(queries, 10)
    exact = searcher.search(queries, 10, exact=True)

    def recall(found, exact):
        return (found.scores >= exact.scores[:, -1:] - 1e-6).mean()

    assert recall(many, few) >= recall(among_all, exact) - 0.1
    everything = searcher.search(queries, 10, only=np.ones(len(vectors), dtype=bool))
    np.testing.assert_array_equal(everything.rows, among_all.rows)


def test_conditions_on_items_name_the_rows_that_meet_all_of_them(write_build, tmp_path, vectors):
    searcher = Searcher.open(write_build(str(tmp_path), vectors, shards=3))

    def numbers(**conditions) -> list[int]:
        rows = ItemFilter(**conditions).rows_of(searcher)
        return sorted(int(item) for item in searcher.items(["item_id"])["item_id"].filter(pa.array(rows)).to_pylist())

    assert ItemFilter().rows_of(searcher) is None
    assert numbers(category="d") == list(range(1, 500, 2))
    assert numbers(min_price=3, max_price=7) == [3, 4, 6, 7], "5 has no price"
    assert numbers(category="c", max_price=7, item_ids=["4", "5", "6", "12", "none"]) == [4, 6]
    assert numbers(in_stock=True, max_price=12) == [0, 3, 4, 7, 12]
    assert numbers(in_stock=False, max_price=12) == [1, 9]
    assert numbers(item_ids=[]) == []


def test_a_search_for_more_than_there_is_ends_with_empty_places(write_build, tmp_path, vectors, queries):
    found = Searcher.open(write_build(str(tmp_path), vectors[:7])).search(queries, 10)
    assert (found.rows[:, 7:] == -1).all()
    assert np.isneginf(found.scores[:, 7:]).all()
    assert (np.sort(found.rows[:, :7], axis=1) == np.arange(7)).all()


def test_searches_leave_the_number_of_threads_as_it_was(searcher_of, queries):
    searcher = searcher_of("IVF16,RaBitQ2,RFlat", 3)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        alone = [searcher.search(query[None], 10) for query in queries[:5]]
        searcher.search(queries[:0], 10)
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)
    together = searcher.search(queries[:5], 10)
    np.testing.assert_array_equal(np.concatenate([found.rows for found in alone]), together.rows)


def test_vectors_are_read_in_the_order_that_is_asked_for(write_build, tmp_path, vectors):
    searcher = Searcher.open(write_build(str(tmp_path), vectors, shards=3))
    rows = np.array([499, 0, 250, 250, 3])
    ids = np.array(searcher.items(["item_id"])["item_id"].to_pylist(), dtype=int)
    np.testing.assert_array_equal(searcher.vectors(rows), vectors[ids[rows]])


@pytest.mark.parametrize("name", ["shard-00001-of-00002.faiss", "shard-00000-of-00002.items.parquet"])
def test_a_changed_file_is_refused_by_its_digest_before_it_is_opened(write_build, tmp_path, vectors, name):
    write_build(str(tmp_path), vectors)
    content = bytearray((tmp_path / name).read_bytes())
    content[-100] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BuildIntegrityError, match=f"{name}: expected SHA-256"):
        Searcher.open(str(tmp_path))


def test_a_build_without_a_file_or_without_a_manifest_is_refused(write_build, tmp_path, vectors):
    write_build(str(tmp_path), vectors)
    (tmp_path / "shard-00001-of-00002.faiss").unlink()
    with pytest.raises(BuildIntegrityError, match=r"shard-00001-of-00002.faiss is missing"):
        Searcher.open(str(tmp_path))
    (tmp_path / "manifest.json").write_text('{"format": 2, "build_id": 7}')
    with pytest.raises(BuildIntegrityError, match=r"manifest.json does not parse: build_id"):
        Searcher.open(str(tmp_path))
    (tmp_path / "manifest.json").write_text('{"format": 1, "build_id": "build-test"}')
    with pytest.raises(BuildIntegrityError, match=r"format 1.*expected 2.*run `index build`"):
        Searcher.open(str(tmp_path))
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(BuildIntegrityError, match=r"manifest.json is missing"):
        Searcher.open(str(tmp_path))


def test_a_remote_build_is_written_and_searched_like_a_local_one(write_build, vectors, queries):
    searcher = Searcher.open(write_build("memory://lake/indexes/build-test", vectors))
    brute_force = np.argsort(-(queries @ vectors.T), axis=1)[:, :5]
    np.testing.assert_array_equal(found_ids(searcher, queries, 5), brute_force)


def test_readers_without_spark_find_the_published_build_and_notice_another_manifest(write_build, tmp_path, vectors):
    folder = write_build(str(tmp_path / "build-test"), vectors)
    with pytest.raises(BuildIntegrityError, match="CURRENT is missing"):
        Searcher.published(str(tmp_path))
    current = Current.of(Manifest.read(folder))
    (tmp_path / "CURRENT").write_text(current.model_dump_json())
    assert len(Searcher.published(str(tmp_path))) == 500
    (tmp_path / "CURRENT").write_text(current.model_copy(update={"manifest_sha256": "0"}).model_dump_json())
    with pytest.raises(BuildIntegrityError, match="not the one that was published"):
        Searcher.published(str(tmp_path))


def test_queries_of_another_length_are_refused_by_name(write_build, tmp_path, vectors):
    searcher = Searcher.open(write_build(str(tmp_path), vectors, shards=1))
    with pytest.raises(
        ValueError, match=r"expected queries of shape \(n, 16\), got \(2, 8\); encode them with make-test"
    ):
        searcher.search(np.zeros((2, 8), np.float32), 1)
    with pytest.raises(ValueError, match=r"expected only of shape \(500,\), got \(3,\)"):
        searcher.search(np.zeros((2, 16), np.float32), 1, only=np.ones(3, dtype=bool))


def test_vectors_that_lie_beside_another_items_vector_are_noticed_at_build(write_build, tmp_path, vectors, monkeypatch):
    def off_by_one(path: str) -> faiss.Index:
        index = faiss.read_index(path)
        stored = index.reconstruct_n(0, index.ntotal)
        index.reset()
        index.add(np.roll(stored, 1, axis=0))
        return index

    monkeypatch.setattr("jobs.index.shard_index.open_index", off_by_one)
    with pytest.raises(BuildIntegrityError, match=r"64 of 64 sampled vectors are not those of their rows"):
        write_build(str(tmp_path), vectors[:100], shards=1)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[1], KINDS[-2], KINDS[-1]], ids=lambda kind: kind["index_key"])
def test_the_reader_that_the_documentation_shows_finds_what_the_searcher_finds(
    write_build, tmp_path, vectors, queries, kind
):
    (text,) = re.findall(r"## Outside Spark\n.*?```python\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    folder = write_build(str(tmp_path / "lake" / "indexes" / "build-test"), vectors, shards=3, **kind)
    current = Current.of(Manifest.read(folder)).model_dump_json()
    (tmp_path / "lake" / "indexes" / "CURRENT").write_text(current)
    np.save(tmp_path / "queries.npy", queries)
    program = (
        f'import numpy\nqueries = numpy.load("queries.npy")\n{text}\nnumpy.savez("found", rows=rows, scores=scores)'
    )
    subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, check=True)
    expected, found = Searcher.open(folder).search(queries, 10), np.load(tmp_path / "found.npz")
    np.testing.assert_array_equal(found["rows"], expected.rows)
    np.testing.assert_allclose(found["scores"], expected.scores, atol=1e-6)
