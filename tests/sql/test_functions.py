"""Vector functions give what numpy gives, and keep Spark's own rules for NULL and for vectors that do not fit."""

import numpy as np
import pytest
from pyspark.errors import PySparkException

from jobs.sql import register
from jobs.sql.functions import VectorFunction

PAIRS = "a array<float>, b array<float>"


@pytest.fixture
def vector_functions(enter_lake):
    enter_lake()


def evaluate(spark, expression, *rows):
    """The expression's value for each row (a, b)."""
    frame = spark.createDataFrame([(n, *row) for n, row in enumerate(rows)], f"n int, {PAIRS}")
    return [row["value"] for row in frame.selectExpr("n", f"{expression} AS value").orderBy("n").collect()]


def test_they_equal_numpy_and_return_float(spark, vector_functions):
    pairs = np.random.default_rng(0).normal(size=(50, 2, 16)).astype(np.float32)
    rows = spark.createDataFrame([(n, *pair.tolist()) for n, pair in enumerate(pairs)], f"n int, {PAIRS}").selectExpr(
        "n",
        "vector_inner_product(a, b) AS inner",
        "vector_cosine_similarity(a, b) AS cosine",
        "vector_l2_distance(a, b) AS distance",
        "vector_norm(a) AS norm",
        "vector_normalize(a) AS unit",
    )
    assert [kind for _, kind in rows.dtypes[1:]] == ["float", "float", "float", "float", "array<float>"]
    found = rows.orderBy("n").toPandas()
    a, b = pairs[:, 0], pairs[:, 1]
    norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    inner = (a * b).sum(axis=1)
    np.testing.assert_allclose(found["inner"], inner, atol=1e-4)
    np.testing.assert_allclose(found["cosine"], inner / norms[0] / norms[1], atol=1e-5)
    np.testing.assert_allclose(found["distance"], np.linalg.norm(a - b, axis=1), rtol=1e-5)
    np.testing.assert_allclose(found["norm"], norms[0], rtol=1e-5)
    np.testing.assert_allclose(np.stack(found["unit"]), a / norms[0][:, None], atol=1e-6)


def test_norms_go_by_degree(spark, vector_functions):
    vectors = [([3.0, -4.0, 0.0], None), ([-1.0, 1.0, 0.5], None)]
    for degree, order in (("1.0F", 1), ("2.0F", 2), ("float('inf')", np.inf)):
        expected = [np.linalg.norm(a, order) for a, _ in vectors]
        assert evaluate(spark, f"vector_norm(a, {degree})", *vectors) == pytest.approx(expected)
        units = evaluate(spark, f"vector_normalize(a, {degree})", *vectors)
        assert evaluate(spark, f"vector_norm(a, {degree})", ([1.0, None, 2.0], None)) == [None]
        np.testing.assert_allclose(units, [np.array(a) / n for (a, _), n in zip(vectors, expected, strict=True)])
    with pytest.raises(PySparkException, match=r"expected a degree of 1.0, 2.0 or float\('inf'\), got 3.0"):
        evaluate(spark, "vector_norm(a, 3.0F)", *vectors)


def test_a_sum_and_a_mean_leave_absent_vectors_out(spark, vector_functions):
    rows = spark.createDataFrame(
        [("x", [1.0, 2.0]), ("x", [3.0, 5.0]), ("x", None), ("x", [9.0, None]), ("y", None), ("z", [])],
        "k string, v array<float>",
    )
    rows.createOrReplaceTempView("vectors")
    found = spark.sql("SELECT k, vector_sum(v), vector_avg(v) FROM vectors GROUP BY k ORDER BY k").collect()
    assert [tuple(row) for row in found] == [("x", [4.0, 7.0], [2.0, 3.5]), ("y", None, None), ("z", [], [])]
    ((total,),) = spark.sql("SELECT vector_sum(v) FROM vectors WHERE k = 'y'").collect()
    assert total is None
    with pytest.raises(PySparkException, match="vector_avg: expected vectors of one length, got 0 and 2"):
        spark.sql("SELECT vector_avg(v) FROM vectors").collect()


@pytest.mark.parametrize("function", ["vector_inner_product", "vector_cosine_similarity", "vector_l2_distance"])
def test_a_null_vector_or_a_null_in_one_gives_null(spark, vector_functions, function):
    assert evaluate(spark, f"{function}(a, b)", (None, [1.0]), ([1.0], None), ([1.0, None], [1.0, 1.0])) == [None] * 3


@pytest.mark.parametrize("function", ["vector_norm", "vector_normalize"])
def test_a_null_vector_has_no_norm(spark, vector_functions, function):
    assert evaluate(spark, f"{function}(a)", (None, None), ([1.0, None], None)) == [None] * 2


@pytest.mark.parametrize("function", ["vector_inner_product", "vector_cosine_similarity", "vector_l2_distance"])
def test_vectors_of_different_length_are_an_error_that_names_both(spark, vector_functions, function):
    with pytest.raises(PySparkException, match=f"{function}: expected vectors of one length, got 2 and 3"):
        evaluate(spark, f"{function}(a, b)", ([1.0, 2.0], [1.0, 2.0, 3.0]))


def test_a_vector_of_length_zero_has_no_direction(spark, vector_functions):
    zero = ([0.0, 0.0], [1.0, 0.0])
    assert evaluate(spark, "vector_cosine_similarity(a, b)", zero) == [None]
    assert evaluate(spark, "vector_normalize(a)", zero) == [None]
    assert evaluate(spark, "vector_norm(a)", zero) == [0.0]


def test_the_inner_product_of_empty_vectors_is_zero(spark, vector_functions):
    assert evaluate(spark, "vector_inner_product(a, b)", ([], [])) == [0.0]


def test_where_spark_has_its_own_function_ours_steps_aside(enter_lake, monkeypatch):
    spark_has_it = VectorFunction("sqrt", "v ARRAY<FLOAT>", "FLOAT", "1.0", "Spark's own since ever.")
    monkeypatch.setattr(register, "VECTOR_FUNCTIONS", (spark_has_it,))
    assert "sqrt" not in enter_lake().functions
