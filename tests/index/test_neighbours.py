"""What a passing check records of a build's neighbours is what comparing every vector with every other gives."""

import datetime as dt

import numpy as np
import pytest

from jobs.index import check
from jobs.index.builds import find_build, mark_removed
from schemas import DUPLICATE_ITEMS, QUERY_EMBEDDINGS, QUERY_NEIGHBOURS
from tests.builds import unit

DAY = dt.date(2026, 11, 1)


@pytest.fixture
def alike():
    """Thirty items: 3 and 4 are nearly the same; 7, 8 and 9 as a chain, whose ends are not."""
    rows = np.random.default_rng(3).normal(size=(30, 32))
    rows[4] = rows[3] + 0.05 * rows[0]
    rows[8] = rows[7] + 0.14 * rows[1]
    rows[9] = rows[8] + 0.14 * rows[1]
    return unit(rows)


def test_duplicates_are_grouped_and_queries_told_by_how_near_they_come(
    lake, spark, put_build, put_items, promoted_model, run_job, alike
):
    put_items({str(row): vector for row, vector in enumerate(alike)}, promoted_model)
    put_build("build-a", DAY, "built", rows=alike)
    queries = unit(np.stack([alike[5], -alike.sum(axis=0)]))
    asked = [(f"query {n}", promoted_model, vector.tolist(), 10 - n, "r") for n, vector in enumerate(queries)]
    lake.append(QUERY_EMBEDDINGS, spark.createDataFrame(asked, QUERY_EMBEDDINGS.schema))

    record = run_job(check, date=DAY, agreement_items=0, min_coverage=0, min_duplicate_score=0.98)
    assert record["verdict"] == "succeeded", record["notes"]

    scores = alike @ alike.T - 2 * np.eye(30)
    assert scores[7, 8] >= 0.98 > scores[7, 9]  # a chain
    expected = {("3", 1), ("4", 1), ("7", 2), ("8", 2), ("9", 2)}
    found = lake.read(DUPLICATE_ITEMS).collect()
    assert {(row["item_id"], row["duplicate_group"]) for row in found} == expected
    for row in found:
        assert row["nearest_score"] == pytest.approx(scores[int(row["item_id"])].max(), abs=1e-4)

    told = {row["query"]: row for row in lake.read(QUERY_NEIGHBOURS).collect()}
    by_query = np.sort(queries @ alike.T, axis=1)[:, ::-1]
    assert [told[f"query {n}"]["item_id"] for n in range(2)] == [str((query @ alike.T).argmax()) for query in queries]
    for n in range(2):
        assert told[f"query {n}"]["score"] == pytest.approx(by_query[n, 0], abs=1e-4)
        assert told[f"query {n}"]["score_at_10"] == pytest.approx(by_query[n, 9], abs=1e-4)
    assert [told[f"query {n}"]["is_covered"] for n in range(2)] == [True, False]

    # Again nothing is written; and with the build its neighbours go.
    versions = lake.versions(DUPLICATE_ITEMS, QUERY_NEIGHBOURS)
    assert run_job(check, date=DAY, agreement_items=0, min_coverage=0)["verdict"] == "unchanged"
    assert lake.versions(DUPLICATE_ITEMS, QUERY_NEIGHBOURS) == versions
    assert find_build(lake, "build-a")["status"] == "passed"
    mark_removed(lake, ["build-a"])
    assert lake.read(DUPLICATE_ITEMS).isEmpty()
    assert lake.read(QUERY_NEIGHBOURS).isEmpty()
