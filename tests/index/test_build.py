"""A build holds exactly the active items' vectors of one model, and an unchanged night builds nothing."""

import datetime as dt

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.core.options import OptionsError, parse_options
from jobs.index import build
from jobs.index.choosing import choose_index
from jobs.index.manifest import Manifest
from jobs.index.searcher import Searcher
from schemas import INDEX_BUILDS

DAY = dt.date(2026, 11, 1)
NEXT_DAY = dt.date(2026, 11, 2)


def builds(lake) -> list:
    return lake.read(INDEX_BUILDS).orderBy("built_at").collect()


def searcher_of(lake, build_id: str) -> Searcher:
    return Searcher.open(lake.uri("indexes", build_id))


@pytest.fixture
def embedded(put_items, promoted_model, vectors) -> str:
    put_items(vectors, promoted_model)
    return promoted_model


def test_a_build_holds_every_covered_item_once_with_its_vector_and_columns(lake, run_job, embedded, vectors):
    record = run_job(build, date=DAY, shards=3)
    assert (record["verdict"], record["rows_in"], record["rows_out"], record["rows_rejected"]) == (
        "succeeded",
        40,
        40,
        0,
    )
    (row,) = builds(lake)
    assert (row["status"], row["items"], row["dimension"], row["shards"]) == ("built", 40, 32, 3)
    assert row["model_version"] == embedded
    assert set(row["delta_versions"]) == {"items", "item_embeddings"}
    searcher = searcher_of(lake, row["build_id"])
    items = searcher.items(["item_id", "title", "price", "title_weight", "image_status"]).to_pylist()
    assert sorted(item["item_id"] for item in items) == sorted(vectors)
    assert items[0] | {"item_id": ""} == {
        "item_id": "", "title": "red dress", "price": 1.0, "title_weight": 0.75, "image_status": "ok",
    }  # fmt: skip
    stored = searcher.vectors(np.arange(40))
    np.testing.assert_array_equal(stored, [vectors[item["item_id"]] for item in items])


def test_items_without_a_current_vector_are_left_out_and_counted(lake, run_job, put_items, embedded, vectors):
    put_items({"unembedded": None}, embedded)
    put_items({"item-00": None}, embedded, title="retitled since")
    put_items({"item-01": vectors["item-01"]}, embedded, active=False)
    record = run_job(build, date=DAY)
    assert (record["rows_in"], record["rows_out"], record["rows_rejected"]) == (40, 38, 2)
    held = set(searcher_of(lake, builds(lake)[0]["build_id"]).items(["item_id"])["item_id"].to_pylist())
    assert held == set(vectors) - {"item-00", "item-01"}


def test_an_unchanged_night_builds_nothing_and_writes_no_version(lake, run_job, embedded):
    run_job(build, date=DAY)
    version = lake.version(INDEX_BUILDS)
    assert run_job(build, date=DAY)["verdict"] == "unchanged"
    assert lake.version(INDEX_BUILDS) == version


def test_a_changed_price_makes_another_build_because_searches_show_it(lake, run_job, embedded, put_items, vectors):
    run_job(build, date=DAY)
    put_items({"item-00": vectors["item-00"]}, embedded, price=2.0)
    run_job(build, date=DAY)
    first, second = builds(lake)
    assert first["build_id"] != second["build_id"]


def test_a_night_that_comes_back_to_old_content_has_it_judged_again(lake, run_job, embedded, put_items, vectors):
    run_job(build, date=DAY)
    put_items({"item-00": vectors["item-01"]}, embedded)
    run_job(build, date=NEXT_DAY)
    put_items({"item-00": vectors["item-00"]}, embedded)
    run_job(build, date=NEXT_DAY)
    other, again = builds(lake)
    assert (again["logical_date"], again["status"]) == (NEXT_DAY, "built")
    assert other["build_id"] != again["build_id"]


def test_only_vectors_of_the_named_model_enter_a_build(lake, run_job, embedded, put_items, vectors):
    put_items({"item-00": vectors["item-00"], "item-01": vectors["item-01"]}, "make-other")
    run_job(build, date=DAY, model_version="make-other")
    (row,) = builds(lake)
    assert (row["model_version"], row["items"]) == ("make-other", 2)
    assert Manifest.read(lake.uri("indexes", row["build_id"])).model_version == "make-other"


def test_vectors_of_two_lengths_are_refused_by_name(lake, run_job, embedded, put_items):
    put_items({"short": [1.0, 0.0]}, embedded)
    record = run_job(build, date=DAY)
    assert record["verdict"] == "failed"
    assert "lengths 2, 32" in record["notes"][-1]
    assert builds(lake) == []


def test_a_lake_without_vectors_or_model_says_what_to_run(lake, run_job, put_items, vectors):
    assert run_job(build, date=DAY)["verdict"] == "skipped"
    put_items({"a": None, "b": vectors["item-00"]}, "make-other")
    record = run_job(build, date=DAY, model_version="make-1")
    assert record["verdict"] == "failed"
    assert "embedding items --date 2026-11-01" in record["notes"][-1]


def test_a_build_that_was_cut_off_is_built_again_from_nothing(lake, run_job, embedded):
    run_job(build, date=DAY)
    build_id = builds(lake)[0]["build_id"]
    lake.fs.rm(lake.path("indexes", build_id, "manifest.json"))
    lake.fs.pipe_file(lake.path("indexes", build_id, ".shard-00000.faiss.partial"), b"half")
    assert run_job(build, date=DAY)["verdict"] == "succeeded"
    names = {path.rsplit("/", 1)[-1] for path in lake.fs.ls(lake.path("indexes", build_id), detail=False)}
    assert names == {
        "manifest.json",
        *(f"shard-0000{n}-of-00002.{kind}" for n in (0, 1) for kind in ("faiss", "items.parquet")),
    }


def test_inverted_lists_are_trained_once_and_shared_by_all_shards(lake, run_job, embedded):
    run_job(build, date=DAY, index_key="IVF4,Flat", shards=2)
    searcher = searcher_of(lake, builds(lake)[0]["build_id"])
    import faiss

    first, second = (faiss.extract_index_ivf(index).quantizer for index in searcher._indexes)
    np.testing.assert_array_equal(first.reconstruct_n(0, 4), second.reconstruct_n(0, 4))
    assert len(searcher) == 40


def test_more_lists_than_vectors_are_refused(lake, run_job, embedded):
    record = run_job(build, date=DAY, index_key="IVF64,Flat")
    assert record["verdict"] == "failed"
    assert "64 vectors to train on, there are 40" in record["notes"][-1]


def test_an_index_key_that_loses_vectors_is_refused_before_anything_starts():
    with pytest.raises(OptionsError, match="index-key"):
        parse_options(build.Options, ["--date", "2026-11-01", "--index-key", "PQ8"])


@pytest.mark.parametrize(
    ("vectors", "key", "shards"),
    [
        (3_000, "Flat", 2),
        (99_999, "Flat", 2),
        (1_000_000, "IVF4096,Flat", 8),
        (20_000_000, "IVF16384_HNSW32,Flat", 153),
    ],
)
def test_larger_catalogs_get_lists_and_more_shards(vectors, key, shards):
    choice = choose_index(vectors, 128)
    assert (choice.index_key, choice.shards) == (key, shards)


def test_items_files_are_sorted_by_item_id_so_that_equal_content_gives_equal_bytes(lake, run_job, embedded):
    run_job(build, date=DAY)
    build_id = builds(lake)[0]["build_id"]
    first = Manifest.read(lake.uri("indexes", build_id))
    for shard in first.shards:
        ids = pq.read_table(lake.path("indexes", build_id, shard.items_file))["item_id"].to_pylist()
        assert ids == sorted(ids)
    lake.fs.rm(lake.path("indexes", build_id), recursive=True)
    run_job(build, date=DAY)
    assert Manifest.read(lake.uri("indexes", build_id)) == first
