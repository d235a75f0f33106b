"""A build holds exactly the active items' vectors of one model, and an unchanged night builds nothing."""

import datetime as dt

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F
from rich.filesize import decimal

from jobs.core.options import OptionsError, parse_options
from jobs.index import build
from jobs.index.choosing import choose_index
from jobs.index.index_key import IndexKey
from jobs.index.layout import partition_keys
from jobs.index.manifest import Manifest
from jobs.index.searcher import Searcher
from schemas import INDEX_BUILDS, ITEMS, JOB_RUNS

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


def centroids(lake, build_id: str) -> list[np.ndarray]:
    """The centroids of every shard's lists."""
    came = []
    for shard in Manifest.read(lake.uri("indexes", build_id)).shards:
        index = faiss.read_index(lake.path("indexes", build_id, shard.file))
        came.append(faiss.extract_index_ivf(index).quantizer.reconstruct_n(0, 4))
    return came


def test_lists_are_trained_once_shared_by_all_shards_and_kept_while_they_are_even(
    lake, run_job, embedded, put_items, vectors
):
    options = {"index_key": "IVF4,Flat", "shards": 2}
    trained = run_job(build, date=DAY, **options)
    assert "lists trained: no earlier build" in trained["notes"][-1]
    put_items({"item-00": vectors["item-01"]}, embedded)
    kept = run_job(build, date=NEXT_DAY, **options)
    first, second = (row["build_id"] for row in builds(lake))
    assert f"lists of {first} kept" in kept["notes"][-1]
    for came in (*centroids(lake, first), *centroids(lake, second)):
        np.testing.assert_array_equal(came, centroids(lake, first)[0])
    manifest = Manifest.read(lake.uri("indexes", second))
    assert manifest.training.build_id == first
    assert manifest.training.imbalance == kept["figures"]["imbalance"] >= 1

    # Twenty more items in the direction of one: its list is far longer than the others now.
    put_items({f"copy-{n:02d}": vectors["item-05"] for n in range(20)}, embedded)
    uneven = run_job(build, date=NEXT_DAY, **options)
    assert f"lists of {first} kept" in uneven["notes"][-1]
    put_items({"item-00": vectors["item-00"]}, embedded)
    retrained = run_job(build, date=NEXT_DAY, **options)
    assert "lists trained anew: their imbalance was" in retrained["notes"][-1]
    last = builds(lake)[-1]["build_id"]
    assert (centroids(lake, last)[0] != centroids(lake, first)[0]).any()
    assert Manifest.read(lake.uri("indexes", last)).training.build_id == last


def test_searches_read_as_many_lists_as_the_recall_that_is_asked_for_takes(lake, run_job, embedded):
    run_job(build, date=DAY, index_key="IVF8,Flat", recall_target=0.3)
    run_job(build, date=DAY, index_key="IVF8,Flat", recall_target=1.0)
    efforts = [searcher_of(lake, row["build_id"]).manifest.effort for row in builds(lake)]
    assert 1 <= efforts[0].nprobe < efforts[1].nprobe <= 8


@pytest.mark.parametrize("shards", [2, 5, 12])
def test_every_shard_is_a_task_of_its_own(spark, shards):
    keys = F.array(*(F.lit(key) for key in partition_keys(spark, shards)))
    rows = spark.range(100).select((F.col("id") % shards).cast("int").alias("shard"))
    tasks = rows.repartition(shards, keys[F.col("shard")]).select("shard", F.spark_partition_id().alias("task"))
    assert sorted(row["task"] for row in tasks.distinct().collect()) == list(range(shards))


def test_a_damaged_build_is_made_anew_unless_searches_are_answered_from_it(lake, run_job, embedded):
    run_job(build, date=DAY)
    build_id = builds(lake)[0]["build_id"]
    shard = lake.path("indexes", build_id, "shard-00000-of-00002.faiss")
    written = lake.fs.cat_file(shard)
    lake.fs.pipe_file(shard, b"damaged")
    lake.delta(INDEX_BUILDS).update(set={"status": F.lit("published"), "gates": F.array()})
    record = run_job(build, date=DAY)
    assert record["verdict"] == "failed"
    assert "Go back with `index rollback`" in record["notes"][-1]
    lake.delta(INDEX_BUILDS).update(set={"status": F.lit("failed")})
    assert run_job(build, date=DAY)["verdict"] == "succeeded"
    assert lake.fs.cat_file(shard) == written


def test_every_part_of_the_catalog_can_have_shards_of_its_own(lake, spark, run_job, embedded, vectors):
    of_other = F.col("item_id") < "item-10"
    lake.delta(ITEMS).update(of_other, {"category": F.when(F.col("item_id") < "item-05", "d")})
    run_job(build, date=DAY, partition_by="category")
    (row,) = builds(lake)
    manifest = Manifest.read(lake.uri("indexes", row["build_id"]))
    assert manifest.partition_by == "category"
    assert [(shard.partition, shard.rows) for shard in manifest.shards] == [(None, 5), ("c", 30), ("d", 5)]
    for shard in manifest.shards:
        categories = pq.read_table(lake.path("indexes", row["build_id"], shard.items_file))["category"].to_pylist()
        assert set(categories) == {shard.partition}
    searcher = searcher_of(lake, row["build_id"])
    ids = np.array(searcher.items(["item_id"])["item_id"].to_pylist())
    rows = np.array(list(vectors.values()))
    expected = np.array(list(vectors))[np.argsort(-(rows @ rows.T), axis=1)[:, :5]]
    np.testing.assert_array_equal(ids[searcher.search(rows, 5).rows], expected)


def test_a_plan_says_what_would_be_built_and_leaves_nothing(lake, run_job, embedded, capfd):
    run_job(build, date=DAY, index_key="IVF4,Flat", plan=True)
    said = capfd.readouterr().err
    assert "40 of 40 active ones, vectors of 32" in said
    assert "IVF4,Flat, 2 shards" in said
    assert "unknown: no run has written a build yet" in said
    assert builds(lake) == []
    assert lake.read(JOB_RUNS).count() == 0
    record = run_job(build, date=DAY, index_key="IVF4,Flat")
    run_job(build, date=DAY, index_key="Flat", plan=True)
    said = capfd.readouterr().err
    assert f"by run {record['run_id']} over 40 items, which built IVF4,Flat: take it as a hint" in said
    size = lake.fs.du(lake.path("indexes", builds(lake)[0]["build_id"]))
    assert record["figures"]["build_bytes"] == size
    assert f"about {decimal(size)} on disk" in said


def test_more_lists_than_vectors_are_refused(lake, run_job, embedded):
    record = run_job(build, date=DAY, index_key="IVF64,Flat")
    assert record["verdict"] == "failed"
    assert "64 vectors to train on, there are 40" in record["notes"][-1]


def test_an_index_key_that_loses_vectors_is_refused_before_anything_starts():
    with pytest.raises(OptionsError, match="index-key"):
        parse_options(build.Options, ["--date", "2026-11-01", "--index-key", "PQ8"])


@pytest.mark.parametrize(
    ("vectors", "dimension", "recall_target", "key", "shards"),
    [
        (3_000, 128, 0.98, "Flat", 2),
        (99_999, 128, 0.98, "Flat", 2),
        (300_000, 128, 0.98, "IVF2048,Flat", 2),
        (1_000_000, 128, 0.98, "IVF4096,RaBitQ2,RFlat", 5),
        (1_000_000, 128, 0.999, "IVF4096,SQ8,RFlat", 5),
        (1_000_000, 32, 0.98, "IVF4096,SQ8,RFlat", 2),
        (20_000_000, 128, 0.98, "IVF16384,RaBitQ2,RFlat", 86),
        (200_000_000, 128, 0.98, "IVF65536_HNSW32,RaBitQ2,RFlat", 853),
    ],
)
def test_larger_catalogs_get_lists_then_codes_and_more_shards(vectors, dimension, recall_target, key, shards):
    choice = choose_index([vectors], dimension, recall_target=recall_target, shard_memory_mib=128)
    assert (choice.index_key, choice.shards) == (key, (shards,))


@pytest.mark.parametrize(
    "text",
    [
        "Flat",
        "HNSW8",
        "IVF16,Flat",
        "IVF16,SQ8,RFlat",
        "IVF16,PQ32x4fs,RFlat",
        "IVF16,RaBitQ,RFlat",
        "IVF16,RaBitQ2,RFlat",
    ],
)
def test_the_memory_that_a_kind_is_said_to_take_is_what_it_takes(text):
    rows = np.random.default_rng(0).normal(size=(4_000, 128)).astype(np.float32)
    index = faiss.index_factory(128, text, faiss.METRIC_INNER_PRODUCT)
    index.train(rows)
    empty = len(faiss.serialize_index(index))
    index.add(rows)
    taken = (len(faiss.serialize_index(index)) - empty) / len(rows)
    assert IndexKey.parse(text).bytes_a_vector(128) == pytest.approx(taken, rel=0.05)


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
