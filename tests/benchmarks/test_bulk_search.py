"""Spark, FAISS alone and SQL answer the same queries, and what is told is milliseconds a query round by round."""

from benchmarks.bulk_search import (
    ALONE,
    CROSS_JOIN,
    SPARK,
    Asked,
    Timed,
    in_turn,
    told_beside_faiss,
    told_beside_sql,
)
from tests.benchmarks.conftest import CLUSTERED_ITEMS
from tests.sql.conftest import enter_lake

__all__ = ["enter_lake"]  # it puts the database away that the SQL side enters


def test_spark_faiss_and_sql_find_the_true_neighbours(clustered, clustered_lake, clustered_build, enter_lake):
    asked = Asked(clustered_lake, clustered_build, clustered, items=CLUSTERED_ITEMS, queries=40)
    beside_faiss, beside_sql = asked.beside_faiss(rounds=1), asked.beside_sql(3, rounds=1)
    assert {name: (way.queries, way.recall_at_10) for name, way in beside_faiss.items()} == {
        ALONE: (40, 1.0),
        SPARK: (40, 1.0),
    }
    assert {name: (way.queries, way.recall_at_10) for name, way in beside_sql.items()} == {
        CROSS_JOIN: (3, 1.0),
        SPARK: (40, 1.0),
    }


def test_each_is_timed_as_often_as_said_in_turn_and_its_first_time_is_dropped():
    called = []
    seconds = in_turn({name: lambda name=name: called.append(name) for name in "ab"}, rounds=2)
    assert called == ["a", "b", "b", "a", "a", "b"]
    assert {name: len(of_action) for name, of_action in seconds.items()} == {"a": 2, "b": 2}


def test_ratios_are_of_the_same_round_and_of_single_queries():
    alone, joined = Timed(1_000, [1.0, 2.0], 0.96), Timed(1_000, [1.25, 2.0], 0.95)
    lines = told_beside_faiss({ALONE: alone, SPARK: joined}).splitlines()
    assert lines[2] == "| FAISS alone | 1,000 | 1.50 | 1.500 | 0.9600 |"
    assert lines[-1] == "share of the speed of FAISS alone: 0.90 (0.80 to 1.00)"
    crossed = Timed(10, [5.0, 8.0], 1.0)
    lines = told_beside_sql({CROSS_JOIN: crossed, SPARK: joined}).splitlines()
    assert lines[-1] == "times faster a query than the cross join: 400.00 (400.00 to 400.00)"
