"""Searches of whole DataFrames give what a brute-force comparison gives, from one build, whatever the queries are."""

import numpy as np
import pytest

from jobs.core.job import JobError
from jobs.index.builds import mirror_published
from jobs.index.filters import ItemFilter
from jobs.index.knn_join import knn_join
from jobs.index.manifest import BuildIntegrityError
from models.encoder import Encoder


@pytest.fixture
def build(lake, write_build, vectors, promoted_model) -> np.ndarray:
    """A published build of forty items in three shards; its vectors by item number."""
    rows = np.array(list(vectors.values()))
    write_build(lake.path("indexes", "build-a"), rows, shards=3, build_id="build-a", model_version=promoted_model)
    mirror_published(lake, "build-a")
    return rows


def ranked(found) -> dict[str, list[int]]:
    """Query to the numbers of its items, best first."""
    rows = sorted(found.collect(), key=lambda row: (row["name"], row["rank"]))
    assert all(row["rank"] >= 1 for row in rows)
    return {name: [int(row["item_id"]) for row in rows if row["name"] == name] for name in {r["name"] for r in rows}}


def nearest(rows: np.ndarray, queries: np.ndarray, allowed: np.ndarray) -> list[list[int]]:
    scores = np.where(allowed, queries @ rows.T, -np.inf)
    return [order[: min(4, allowed.sum())].tolist() for order in np.argsort(-scores, axis=1)]


@pytest.mark.parametrize(
    ("only", "allowed"),
    [
        (None, lambda number: True),
        (ItemFilter(category="d", max_price=12), lambda number: number % 2 == 1 and number <= 12 and number % 3 != 2),
        (ItemFilter(item_ids=["17"]), lambda number: number == 17),
    ],
)
def test_vectors_find_their_nearest_items_that_meet_the_conditions(lake, spark, build, only, allowed):
    queries = np.random.default_rng(5).normal(size=(9, 32)).astype(np.float32)
    asked = [(f"q{n}", query.tolist()) for n, query in enumerate(queries)] + [("nothing", None)]
    frame = spark.createDataFrame(asked, "name string, vector array<float>").repartition(3)
    found = ranked(knn_join(frame, 4, lake=lake, only=only))
    expected = nearest(build, queries, np.array([allowed(number) for number in range(40)]))
    assert found == {f"q{n}": numbers for n, numbers in enumerate(expected)}


def test_items_find_those_like_them_and_not_themselves(lake, spark, build):
    frame = spark.createDataFrame([("a", "3"), ("b", "no such item")], "name string, like string")
    assert ranked(knn_join(frame, 4, lake=lake, by="like")) == {"a": np.argsort(-build @ build[3])[1:5].tolist()}
    only = ItemFilter(item_ids=["5", "6", "7", "8"])
    best = nearest(build, build[3:4], np.isin(np.arange(40), [5, 6, 7, 8]))
    assert ranked(knn_join(frame, 4, lake=lake, by="like", only=only, exact=True)) == {"a": best[0]}


def test_queries_are_encoded_by_the_builds_own_model(lake, spark, build, promoted_model):
    frame = spark.createDataFrame([("a", "red dress"), ("b", " "), ("c", None)], "name string, query string")
    encoder = Encoder.from_folder(lake.local_dir("models", promoted_model))
    expected = nearest(build, encoder.embed_queries(["red dress"]), np.ones(40, dtype=bool))
    assert ranked(knn_join(frame, 4, lake=lake, by="query")) == {"a": expected[0]}


def test_what_cannot_be_joined_is_said(lake, spark, build):
    frame = spark.createDataFrame([("a", [1.0], 1)], "name string, vector array<float>, rank int")
    with pytest.raises(
        JobError, match="expected a column vector and none of rank, item_id, score, got name, vector, rank"
    ):
        knn_join(frame, 4, lake=lake)
    with pytest.raises(BuildIntegrityError, match="build-b"):
        knn_join(frame.drop("rank"), 4, lake=lake, build_id="build-b").collect()
    with pytest.raises(Exception, match=r"expected queries of shape \(n, 32\), got \(1, 1\)"):
        knn_join(frame.drop("rank"), 4, lake=lake).collect()
