"""What changed between two builds is what plain Python finds in their rows."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs.index.searcher import Searcher
from jobs.operations.changes import compare_builds, moved_answers
from jobs.operations.contact_sheet import SampleQuery, answer_queries
from tests.builds import rewrite_items, unit, write_build

COLUMNS = {
    "other title": "title",
    "other photo": "image_sha256",
    "other category": "category",
    "other price": "price",
}


def rows_of(build: Searcher) -> dict[str, dict]:
    """Plain rows with their vectors, by item_id."""
    rows = build.items(["item_id", *COLUMNS.values()]).to_pylist()
    vectors = build.vectors(np.arange(len(build)))
    return {row["item_id"]: row | {"vector": vector} for row, vector in zip(rows, vectors, strict=True)}


def otherwise(chance: random.Random):
    """A change of a shard's items: some get another id, and some another title, photo, category or price, or none."""

    def change(items: pa.Table) -> pa.Table:
        rows = items.to_pylist()
        for row in rows:
            if chance.random() < 0.2:
                row["item_id"] += " anew"
            if chance.random() < 0.2:
                row["title"] += " <b>"
            for name, other in (("image_sha256", "other"), ("category", "e"), ("price", 0.5)):
                if chance.random() < 0.2:
                    row[name] = chance.choice([other, None])
        return pa.Table.from_pylist(rows, schema=items.schema)

    return change


@pytest.fixture(params=[1, 2])
def builds(request, tmp_path: Path) -> tuple[Searcher, Searcher]:
    """A build and a later one of which much is otherwise; a third of the vectors have moved a little."""
    chance = random.Random(request.param)
    vectors = unit(np.random.default_rng(request.param).normal(size=(120, 8)))
    moved = vectors[:110].copy()
    moved[::3] = unit(moved[::3] + 0.01 * vectors[:1])
    photos = [chance.choice(["red", "blue", None]) for _ in vectors]
    write_build(str(tmp_path / "old"), vectors, build_id="old", shards=3, photos=photos)
    write_build(str(tmp_path / "new"), moved, build_id="new", photos=photos)
    rewrite_items(tmp_path / "new", otherwise(chance))
    return Searcher.open(str(tmp_path / "old")), Searcher.open(str(tmp_path / "new"))


def test_items_count_by_what_is_otherwise_in_their_rows(builds):
    old, new = map(rows_of, builds)
    both = old.keys() & new.keys()
    expected = {"came": new.keys() - old.keys(), "went": old.keys() - new.keys()}
    for kind, column in COLUMNS.items():
        expected[kind] = {item_id for item_id in both if old[item_id][column] != new[item_id][column]}
    found = compare_builds(*builds, examples=1_000)
    assert {kind: {one.now.item_id for one in of.examples} for kind, of in found.kinds.items()} == expected
    assert {kind: of.items for kind, of in found.kinds.items()} == {kind: len(ids) for kind, ids in expected.items()}
    assert all(len(ids) > 5 for ids in expected.values())
    assert found.same == len(both - set().union(*expected.values()))


def test_examples_are_as_both_builds_know_them_and_the_same_every_time(builds):
    old, new = map(rows_of, builds)
    found = compare_builds(*builds, examples=4)
    assert found == compare_builds(*builds, examples=4)
    for kind, of in found.kinds.items():
        assert len({one.now.item_id for one in of.examples}) == 4
        for one in of.examples:
            newest, earlier = (old, {}) if kind == "went" else (new, old)
            for shown, rows in ((one.now, newest), (one.was, earlier)):
                row = rows.get(one.now.item_id)
                assert (shown is None) == (row is None)
                if row is not None:
                    assert {name: getattr(shown, name) for name in COLUMNS.values()} == {
                        name: row[name] for name in COLUMNS.values()
                    }


def test_drift_is_the_largest_of_each_categorys_items_that_the_model_reads_as_before(builds):
    old, new = map(rows_of, builds)
    expected = {}
    for item_id in old.keys() & new.keys():
        was, now = old[item_id], new[item_id]
        if (was["title"], was["image_sha256"]) == (now["title"], now["image_sha256"]):
            category = now["category"] or "(no category)"
            drift = 1 - float(was["vector"] @ now["vector"])
            expected[category] = max(drift, expected.get(category, drift))
    assert compare_builds(*builds, examples=0).drift == pytest.approx(expected, abs=1e-6)
    assert max(expected.values()) > 1e-5


def test_a_build_beside_itself_is_the_same(builds):
    old, _ = builds
    found = compare_builds(old, old, examples=5)
    assert (found.same, {kind: of.items for kind, of in found.kinds.items()}) == (
        120,
        dict.fromkeys(["came", "went", *COLUMNS], 0),
    )


def test_across_models_items_are_compared_and_vectors_are_not(tmp_path):
    vectors = unit(np.random.default_rng(1).normal(size=(20, 8)))
    old, new = (
        Searcher.open(write_build(str(tmp_path / model), vectors, build_id=model, model_version=model))
        for model in ("make-1", "make-2")
    )
    found = compare_builds(old, new, examples=5)
    assert (found.same, found.drift) == (20, {})


def best(rows: dict[str, dict], vector: np.ndarray, count: int) -> list[str]:
    """The items with the largest inner products."""
    return sorted(rows, key=lambda item_id: -float(rows[item_id]["vector"] @ vector))[:count]


def test_answers_moved_by_what_a_sort_of_both_builds_finds(builds):
    before, after = builds
    old, new = map(rows_of, builds)
    vectors = unit(np.random.default_rng(9).normal(size=(5, 8)))
    queries = [SampleQuery(place, f"query {place}", 1, vector) for place, vector in enumerate(vectors)]
    answers = answer_queries(queries, after, results_per_query=10)
    # One query had another vector then, and of one nothing is known.
    known = {query.query: query.vector for query in queries[:3]} | {"query 3": vectors[0]}
    moves = moved_answers(answers, before, after, vectors=known, results_per_query=10)
    assert list(moves) == [f"query {place}" for place in range(4)]
    for query in queries[:4]:
        now, was = best(new, query.vector, 10), best(old, known[query.query], 10)
        found = moves[query.query]
        assert list(found.came) == [item_id for item_id in now if item_id not in was]
        assert [lost.item.item_id for lost in found.lost] == [item_id for item_id in was if item_id not in now]
        assert {lost.item.item_id for lost in found.lost if lost.is_gone} == {
            lost.item.item_id for lost in found.lost
        } - new.keys()
    assert any(lost.is_gone for found in moves.values() for lost in found.lost)
    assert any(not lost.is_gone for found in moves.values() for lost in found.lost)


def test_without_a_query_no_answer_moved(builds):
    before, after = builds
    assert moved_answers([], before, after, vectors={}, results_per_query=10) == {}
