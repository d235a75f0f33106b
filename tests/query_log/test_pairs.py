"""Pairs are weighed and queries joined as a slow, obvious computation does it."""

import datetime as dt
import itertools
import math
import random
from collections import Counter, defaultdict

import pytest
from pyspark.sql import functions as F

from jobs.query_log import pairs
from schemas import QUERY_EVENTS, QUERY_ITEM_PAIRS, SIMILAR_QUERIES

DAY = dt.date(2026, 11, 14)
THRESHOLDS = {"min_shared_items": 1, "min_similarity": 0.15, "max_neighbors": 20, "max_queries_per_item": 200}


def simulated_log(seed: int, days: int = 1) -> list[tuple]:
    """Shoppers look at position p with probability 1/p and click what they look at every second time."""
    random_ = random.Random(seed)
    events = []
    for session in range(300):
        date = DAY - dt.timedelta(days=session % days)
        query = f"q{min(int(random_.expovariate(0.4)), 9)}"
        for position in range(1, 6):
            item = f"i{(ord(query[1]) + random_.randrange(6)) % 15}"
            kinds = ["impression"]
            if random_.random() < 0.5 / position:
                kinds.append("click")
                if random_.random() < 0.3:
                    kinds.append("purchase")
            for kind in kinds:
                ts = dt.datetime(date.year, date.month, date.day, 12)
                events.append((f"e{len(events)}", date, ts, f"s{session}", query, item, kind, position))
    return events


def events_frame(spark, rows):
    return spark.createDataFrame(rows, QUERY_EVENTS.schema)


def expected_propensities(rows) -> dict[int, float]:
    counts = Counter((row[7], row[6]) for row in rows)
    positions = {row[7] for row in rows}
    total = sum(counts[p, "click"] for p in positions) / sum(counts[p, "impression"] for p in positions)
    rates = {
        p: (counts[p, "click"] + pairs.PRIOR_IMPRESSIONS * total) / (counts[p, "impression"] + pairs.PRIOR_IMPRESSIONS)
        for p in positions
    }
    return {p: max(rate / max(rates.values()), pairs.LEAST_PROPENSITY) for p, rate in rates.items()}


def expected_weights(rows, propensities) -> dict[tuple[str, str], float]:
    weights = defaultdict(float)
    for row in rows:
        worth = {"impression": 0, "click": 1, "purchase": 3}[row[6]]
        weights[row[4], row[5]] += worth / propensities[row[7]]
    return weights


def expected_cosines(weights) -> dict[tuple[str, str], tuple[float, int]]:
    by_query = defaultdict(dict)
    for (query, item), weight in weights.items():
        if weight > 0:
            by_query[query][item] = weight
    cosines = {}
    for a, b in itertools.permutations(by_query, 2):
        shared = by_query[a].keys() & by_query[b].keys()
        dot = sum(by_query[a][i] * by_query[b][i] for i in shared)
        norms = math.prod(math.sqrt(sum(w * w for w in by_query[q].values())) for q in (a, b))
        cosines[a, b] = dot / norms, len(shared)
    return cosines


def test_propensities_and_weights_equal_the_obvious_computation(spark):
    rows = simulated_log(1)
    frame = events_frame(spark, rows)
    propensities = {r["position"]: r["propensity"] for r in pairs.position_propensities(frame).collect()}
    assert propensities == pytest.approx(expected_propensities(rows))
    weighed = pairs.weigh_pairs(frame, pairs.position_propensities(frame)).collect()
    expected = expected_weights(rows, propensities)
    assert {(r["query"], r["item_id"]): r["weight"] for r in weighed} == pytest.approx(expected, abs=1e-4)
    counts = Counter((row[4], row[5], row[6]) for row in rows)
    for r in weighed:
        for kind in ("impression", "click", "purchase"):
            assert r[f"{kind}s"] == counts[r["query"], r["item_id"], kind]


def test_a_click_far_down_weighs_more_than_one_at_the_top(spark):
    frame = events_frame(spark, simulated_log(2))
    propensities = {r["position"]: r["propensity"] for r in pairs.position_propensities(frame).collect()}
    assert propensities[1] == 1.0
    assert propensities[5] < propensities[3] < propensities[1]


def test_a_log_without_impressions_or_positions_weighs_every_click_one(spark):
    rows = [(*row[:6], "click", None) for row in simulated_log(3)[:40]]
    frame = events_frame(spark, rows)
    weighed = pairs.weigh_pairs(frame, pairs.position_propensities(frame)).collect()
    assert all(r["weight"] == r["clicks"] for r in weighed)
    with_positions = [(*row[:7], 1 + n % 3) for n, row in enumerate(rows)]
    propensities = pairs.position_propensities(events_frame(spark, with_positions)).collect()
    assert {r["propensity"] for r in propensities} == {1.0}


def test_similar_queries_equal_the_obvious_computation(spark):
    weights = expected_weights(rows := simulated_log(4), expected_propensities(rows))
    frame = spark.createDataFrame(
        [(q, i, w) for (q, i), w in weights.items()], "query string, item_id string, weight double"
    )
    found = {
        (r["query"], r["similar_query"]): (r["similarity"], r["shared_items"])
        for r in pairs.similar_queries(frame, **THRESHOLDS).collect()
    }
    expected = {
        edge: (cosine, shared)
        for edge, (cosine, shared) in expected_cosines(weights).items()
        if shared >= 1 and cosine * shared / (shared + 1) >= 0.15
    }
    assert found.keys() == expected.keys()
    assert len(found) > 20
    for edge, (cosine, shared) in expected.items():
        assert found[edge] == (pytest.approx(cosine, abs=1e-6), shared)


def test_each_query_keeps_its_nearest_and_the_graph_stays_symmetric(spark):
    weights = [(f"q{n:02}", item, 1.0 + (n * k) % 7) for n in range(12) for k, item in enumerate("abc")]
    frame = spark.createDataFrame(weights, "query string, item_id string, weight double")
    edges = pairs.similar_queries(frame, **THRESHOLDS | {"max_neighbors": 2})
    assert edges.count() < 12 * 11
    assert edges.groupBy("query").count().count() == 12
    found = {tuple(row) for row in edges.collect()}
    assert found == {(b, a, similarity, shared) for a, b, similarity, shared in found}


def test_a_product_of_thousands_of_queries_joins_only_its_heaviest(spark):
    crowd = spark.range(3_000).select(
        F.format_string("q%04d", "id").alias("query"),
        F.lit("hub").alias("item_id"),
        (F.col("id") + 1.0).alias("weight"),
    )
    edges = pairs.similar_queries(crowd, **THRESHOLDS | {"max_queries_per_item": 10, "max_neighbors": 100})
    assert edges.count() == 10 * 9
    assert edges.agg(F.min("query")).first()[0] == "q2990"


def test_a_second_run_writes_no_version_and_an_older_window_is_left_out(run_job, lake, spark):
    rows = simulated_log(5, days=3)
    lake.append(QUERY_EVENTS, events_frame(spark, rows))
    record = run_job(pairs, date=DAY, window_days=2)
    in_window = [row for row in rows if row[1] > DAY - dt.timedelta(days=2)]
    assert record.verdict == "succeeded"
    assert record.rows_in == len(in_window)
    stored = lake.read(QUERY_ITEM_PAIRS).agg(F.sum(F.expr("impressions + clicks + purchases"))).first()[0]
    assert stored == len(in_window)
    versions = lake.versions(QUERY_ITEM_PAIRS, SIMILAR_QUERIES)
    assert run_job(pairs, date=DAY, window_days=2).verdict == "unchanged"
    assert lake.versions(QUERY_ITEM_PAIRS, SIMILAR_QUERIES) == versions


def test_a_window_without_events_fails_and_says_what_to_run(run_job):
    record = run_job(pairs, date=DAY)
    assert record.verdict == "failed"
    assert "run query-log ingest" in record.notes[0]
