"""`search` in SQL finds what comparing with every vector finds."""

import datetime as dt

import numpy as np
import pytest
from pyspark.errors import PySparkException

from jobs.embedding.inference import open_encoder
from jobs.index import build
from jobs.index.builds import mirror_published
from schemas import INDEX_BUILDS, ITEM_EMBEDDINGS, ITEMS

DAY = dt.date(2026, 11, 1)


@pytest.fixture
def vectors(lake, spark, promoted_model, run_job, enter_lake):
    """Twelve items with made-up vectors under a model that can encode queries, published and registered."""
    values = np.random.default_rng(0).normal(size=(12, 32)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    names = [f"item-{n:02d}" for n in range(12)]
    items = [(name, f"title {name}", "c", 2.5, None, None, None, None, name, True, DAY, None, DAY) for name in names]
    rows = [
        (name, promoted_model, name, vector.tolist(), 0.75, 0.25, 0.1, "ok", "r")
        for name, vector in zip(names, values, strict=True)
    ]
    lake.append(ITEMS, spark.createDataFrame(items, ITEMS.schema))
    lake.append(ITEM_EMBEDDINGS, spark.createDataFrame(rows, ITEM_EMBEDDINGS.schema))
    record = run_job(build, date=DAY)
    assert record["verdict"] == "succeeded", record["notes"]
    mirror_published(lake, lake.read(INDEX_BUILDS).first()["build_id"])
    enter_lake()
    return dict(zip(names, values, strict=True))


def test_it_finds_what_comparing_with_every_vector_finds(lake, spark, promoted_model, vectors):
    found = spark.sql("SELECT * FROM search('red dress', 5)").collect()
    (query,) = open_encoder(lake.path("models", promoted_model), 1).embed_queries(["red dress"])
    expected = sorted(vectors, key=lambda name: -vectors[name] @ query)[:5]
    assert [row["item_id"] for row in found] == expected
    assert [row["rank"] for row in found] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([row["score"] for row in found], [vectors[n] @ query for n in expected], atol=1e-5)
    first = found[0]
    assert (first["title"], first["price"], first["image_weight"]) == (f"title {first['item_id']}", 2.5, 0.25)

    # Beside a table: each of its queries is answered, blank ones and NULL with nothing.
    rows = spark.sql(
        "SELECT q.query, s.rank FROM VALUES ('red dress'), ('blue shirt'), (' '), (NULL) AS q(query), "
        "LATERAL search(q.query, 2) AS s ORDER BY q.query, s.rank"
    ).collect()
    assert [tuple(row) for row in rows] == [("blue shirt", 1), ("blue shirt", 2), ("red dress", 1), ("red dress", 2)]

    with pytest.raises(PySparkException, match="expected k of at least 1, got 0"):
        spark.sql("SELECT * FROM search('red dress', 0)").collect()


def test_without_a_published_build_it_says_so(spark, enter_lake):
    enter_lake()
    with pytest.raises(PySparkException, match="CURRENT is missing"):
        spark.sql("SELECT * FROM search('red dress', 5)")


def test_arguments_of_the_wrong_type_are_refused_with_what_came(spark, enter_lake):
    enter_lake()
    with pytest.raises(PySparkException, match=r"expected search\(query STRING, k INT\), got search\(int, string\)"):
        spark.sql("SELECT * FROM search(5, 'red dress')")
