"""`search` and its kin in SQL find what comparing with every vector finds, in one build, under exact conditions."""

import datetime as dt

import numpy as np
import pytest
from pyspark.errors import PySparkException

from jobs.core.lake import Lake
from jobs.embedding.inference import open_encoder
from jobs.index.builds import mirror_published
from tests.builds import put_build
from tests.lakes import put_promoted_model

DAY = dt.date(2026, 11, 1)


@pytest.fixture(scope="module")
def published(spark, model_folder, tmp_path_factory):
    """A lake with two builds of forty made-up vectors under a model that can encode queries; the second is published.

    The first lacks the last ten items.  Yields the lake, the model's version and the vectors.
    """
    lake = Lake(spark, str(tmp_path_factory.mktemp("published") / "lake"))
    version = put_promoted_model(lake, spark, model_folder)
    vectors = np.random.default_rng(0).normal(size=(40, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    put_build(lake, spark, "build-old", DAY, "superseded", vectors[:30], version)
    put_build(lake, spark, "build-new", DAY, "published", vectors, version)
    mirror_published(lake, "build-new")
    return lake, version, vectors


@pytest.fixture
def ask(spark, published, enter_lake):
    """Asks in SQL: `ask("SELECT ...")` gives the rows as tuples."""
    enter_lake(published[0])
    return lambda query: [tuple(row) for row in spark.sql(query).collect()]


@pytest.fixture
def nearest(published):
    """The ids nearest to a text by comparison with every vector: `nearest(text, k, among)`."""
    lake, version, vectors = published

    def compare(text, k, among=range(40)):
        (query,) = open_encoder(lake.path("models", version), 1).embed_queries([text])
        return sorted(map(str, among), key=lambda item: -vectors[int(item)] @ query)[:k]

    return compare


def test_search_finds_what_comparing_with_every_vector_finds(spark, published, ask, nearest):
    lake, version, vectors = published
    found = spark.sql("SELECT * FROM search('red dress', 5)").collect()
    expected = nearest("red dress", 5)
    assert [row["item_id"] for row in found] == expected
    assert [row["rank"] for row in found] == [1, 2, 3, 4, 5]
    (query,) = open_encoder(lake.path("models", version), 1).embed_queries(["red dress"])
    scores = [vectors[int(item)] @ query for item in expected]
    np.testing.assert_allclose([row["score"] for row in found], scores, atol=1e-5)
    first = found[0].asDict()
    number = int(first["item_id"])
    assert first["title"] == f"title of {number}"
    assert first["category"] == "cd"[number % 2]
    assert first["price"] == (None if number % 3 == 2 else number)
    assert (first["title_weight"], first["image_weight"], first["image_status"]) == (0.75, 0.25, "ok")


def test_beside_a_table_each_query_is_answered_and_a_blank_one_with_nothing(ask):
    assert ask(
        "SELECT q.query, s.rank FROM VALUES ('red dress'), ('blue shirt'), (' '), (NULL) AS q(query), "
        "LATERAL search(q.query, 2) AS s ORDER BY q.query, s.rank"
    ) == [("blue shirt", 1), ("blue shirt", 2), ("red dress", 1), ("red dress", 2)]


def test_conditions_are_exact_and_may_be_given_by_name(ask, nearest):
    even_and_cheap = [number for number in range(0, 40, 2) if number % 3 != 2 and number <= 20]
    conditions = "named_struct('category', 'c', 'max_price', 20)"
    expected = [(item,) for item in nearest("red dress", 4, even_and_cheap)]
    assert ask(f"SELECT item_id FROM search('red dress', 4, {conditions})") == expected
    assert ask(f"SELECT item_id FROM search(k => 4, query => 'red dress', filter => {conditions})") == expected
    chosen = "named_struct('item_ids', array('7', '9', 'none'), 'in_stock', CAST(NULL AS BOOLEAN))"
    assert {item for (item,) in ask(f"SELECT item_id FROM search('red dress', 4, {chosen})")} == {"7", "9"}
    assert ask("SELECT item_id FROM search('red dress', 4, named_struct('min_price', 10.5, 'category', 'x'))") == []


def test_another_build_is_searched_by_its_name(ask, nearest):
    rows = ask("SELECT item_id FROM search('red dress', 40, build_id => 'build-old')")
    assert [item for (item,) in rows] == nearest("red dress", 40, range(30))


def test_similar_items_are_the_nearest_but_the_item_itself(published, ask):
    vectors = published[2]
    by_similarity = [str(row) for row in np.argsort(-(vectors @ vectors[7])) if row != 7]
    assert [item for (item,) in ask("SELECT item_id FROM similar_items('7', 5)")] == by_similarity[:5]
    only_odd = [item for item in by_similarity if int(item) % 2][:3]
    filtered = ask("SELECT item_id FROM similar_items('7', 3, named_struct('category', 'd'))")
    assert [item for (item,) in filtered] == only_odd
    for unknown in ("'nobody'", "NULL"):
        assert ask(f"SELECT * FROM similar_items({unknown}, 5)") == []
    beside = "SELECT i, s.item_id FROM VALUES ('7'), ('nobody') AS t(i), LATERAL similar_items(i, 1) AS s"
    assert ask(beside) == [("7", by_similarity[0])]


def test_search_many_gives_what_searching_one_by_one_gives(spark, ask):
    queries = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in map(str, range(400))]
    spark.createDataFrame([(query, 1) for query in [*queries, " ", None]], "query string, n int").repartition(
        3
    ).createOrReplaceTempView("queries")
    many = ask("SELECT query, rank, item_id, title FROM search_many(TABLE(queries), 3)")
    assert len(many) == 3 * len(queries)
    one_by_one = ask(
        "SELECT q.query, s.rank, s.item_id, s.title FROM (SELECT query FROM queries LIMIT 50) AS q, "
        "LATERAL search(q.query, 3) AS s"
    )
    assert one_by_one
    assert set(one_by_one) <= set(many)
    asked = "TABLE(SELECT query FROM queries WHERE query LIKE 'red 1%')"
    old = ask(f"SELECT item_id FROM search_many({asked}, k => 40, build_id => 'build-old')")
    assert {int(item) for (item,) in old} == set(range(30))


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("search('x', 0)", "search: expected k from 1 to 10000, got 0"),
        ("search('x', 1000000)", "search: expected k from 1 to 10000, got 1000000"),
        ("search('x', NULL)", "search: expected k from 1 to 10000, got NULL"),
        ("similar_items('7', -1)", "similar_items: expected k from 1 to 10000, got -1"),
        ("search_many(TABLE(SELECT 'x' AS query), 0)", "search_many: expected k from 1 to 10000, got 0"),
        ("search(5, 'x')", "search: expected query STRING, k INT, got query INT, k STRING"),
        ("similar_items(7, 5)", "similar_items: expected item_id STRING, k INT, got item_id INT, k INT"),
        ("search_many('x', 5)", r"search_many: expected TABLE\(SELECT query FROM ...\) as the first argument"),
        ("search_many(TABLE(SELECT 1 AS q), 5)", "expected a table with a column query STRING, got q int"),
        ("search('x', 5, 'category = c')", "filter: expected named_struct of any of category, .*, got string"),
        ("search('x', 5, named_struct('colour', 'red'))", "filter: expected fields of category, .*, got colour"),
        ("search('x', 5, named_struct('min_price', 'low'))", "expected min_price to be numeric, got string"),
        ("search('x', 5, named_struct('item_ids', array(7)))", "item_ids to be array<string>, got array<int>"),
        ("search('x', 5, build_id => 'build-none')", "build-none/manifest.json is missing"),
        ("search('x', 5, build_id => '../models')", "build_id: expected the name of a build as in index_builds"),
        ("search('x', 5, build_id => 7)", "build_id: expected build_id STRING, got build_id INT"),
        ("search('x')", "missing a required argument: 'k'"),
        ("drift_between('build-none')", "build-none/manifest.json is missing"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_was_expected_and_what_came(spark, ask, call, complaint):
    with pytest.raises(PySparkException, match=complaint):
        spark.sql(f"SELECT * FROM {call}").collect()


def test_conditions_and_builds_hold_for_a_whole_query(spark, ask):
    rows = "VALUES ('build-old', 'c') AS t(b, c)"
    with pytest.raises(PySparkException, match="build_id: expected build_id to be constant"):
        spark.sql(f"SELECT * FROM {rows}, LATERAL search('x', 5, build_id => b)").collect()
    with pytest.raises(PySparkException, match="filter: expected filter to be constant"):
        spark.sql(f"SELECT * FROM {rows}, LATERAL search('x', 5, named_struct('category', c))").collect()


def test_sql_in_a_text_is_text(ask, nearest):
    text = "'); DROP VIEW items; --"
    found = ask(f"SELECT item_id FROM search('{text.replace(chr(39), chr(92) + chr(39))}', 2)")
    assert [item for (item,) in found] == nearest(text, 2)
    assert ask("SELECT count(*) FROM index_builds") == [(2,)]


def test_without_a_published_build_it_says_so(lake, spark, enter_lake):
    enter_lake(lake)
    with pytest.raises(PySparkException, match="CURRENT is missing"):
        spark.sql("SELECT * FROM search('red dress', 5)")


def test_a_text_is_encoded_as_the_published_builds_model_does(published, spark, ask):
    lake, version, _ = published
    (query,) = open_encoder(lake.path("models", version), 1).embed_queries(["red dress"])
    ((vector,),) = ask("SELECT encode_query('red dress')")
    np.testing.assert_allclose(vector, query, atol=1e-6)
    rows = ask("SELECT q, encode_query(q) FROM VALUES ('red dress'), (NULL), (' '), ('red dress') AS t(q)")
    assert [encoded is not None for _, encoded in rows] == [True, False, False, True]
    np.testing.assert_allclose(rows[3][1], query, atol=1e-6)


def test_drift_is_told_item_by_item(published, spark, enter_lake):
    lake, version, vectors = published
    turned = vectors[5:36].copy()
    turned[0] = -turned[0]
    put_build(lake, spark, "build-turned", DAY, "passed", turned, version)
    enter_lake(lake)
    rows = spark.sql("SELECT * FROM drift_between('build-old', 'build-turned')").collect()
    assert len(rows) == 31
    found = {row["item_id"]: row for row in rows}
    assert found["30"]["change"] == "new"
    assert found["30"]["drift"] is None
    assert found["3"]["change"] == "unchanged"
    expected = 1 - vectors[3] @ turned[3]
    assert found["3"]["drift"] == pytest.approx(expected, abs=1e-5)
    published_too = spark.sql("SELECT change, count(*) FROM drift_between('build-old') GROUP BY change").collect()
    assert {tuple(row) for row in published_too} == {("unchanged", 30), ("new", 10)}
