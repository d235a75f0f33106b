"""The night's figures are what a person would count in the tables."""

import datetime as dt

import numpy as np
import pytest

from jobs.core.plots import HISTOGRAM_BINS
from jobs.operations.night import (
    CatalogChange,
    Gate,
    PastNight,
    build_before,
    build_of_night,
    catalog_changes,
    past_nights,
    published_build,
    refused_by_category,
    rejections_of_night,
    setbacks_of_night,
    steps_of_night,
    vectors_of_night,
)
from schemas import INDEX_BUILDS, ITEM_EMBEDDINGS, ITEMS, JOB_RUNS, REJECTED_ROWS
from tests.operations.nights import BEFORE, MIDNIGHT, MODEL, NIGHT, build_row, gate, job_run


def test_items_count_as_new_changed_unchanged_or_gone_by_the_nights_snapshot(items):
    changes = catalog_changes(items, NIGHT)
    assert changes == {
        "dress": CatalogChange(active=2, new=1, changed=1, unchanged=0, gone=0, moved_on=False),
        "hat": CatalogChange(active=1, new=0, changed=0, unchanged=1, gone=1, moved_on=False),
        "(no category)": CatalogChange(active=1, new=0, changed=0, unchanged=1, gone=0, moved_on=False),
    }
    change = CatalogChange.together(changes.values())
    assert (change.active, change.new, change.changed, change.unchanged, change.gone) == (4, 1, 1, 2, 1)
    assert change.active == change.new + change.changed + change.unchanged
    assert not change.moved_on


def test_a_catalog_that_moved_on_since_is_told(items):
    assert CatalogChange.together(catalog_changes(items, BEFORE).values()).moved_on is True


def test_an_empty_catalog_counts_nothing(spark):
    changes = catalog_changes(spark.createDataFrame([], ITEMS.schema), NIGHT)
    assert CatalogChange.together(changes.values()) == CatalogChange(0, 0, 0, 0, 0, moved_on=False)


def test_only_the_newest_run_of_each_job_of_the_chain_counts_in_the_chains_order(spark):
    runs = [
        job_run("index build", minute=9),
        job_run("catalog ingest", verdict="failed", minute=1),
        job_run("catalog ingest", verdict="unchanged", minute=5),
        job_run("query-log ingest", minute=3, date=BEFORE),
        job_run("training train", minute=4),
    ]
    steps = steps_of_night(spark.createDataFrame(runs, JOB_RUNS.schema), NIGHT)
    assert [(step.job, step.verdict) for step in steps] == [
        ("catalog ingest", "unchanged"),
        ("index build", "succeeded"),
    ]
    assert steps[0].wall_seconds == 10
    assert steps[0].startup_seconds == 4
    assert steps[0].stages == {"read": 6.0}


def test_rows_neither_accepted_nor_rejected_are_counted(spark):
    runs = [job_run("catalog ingest", counts=(10, 6, 3)), job_run("index build", counts=(10, 6, None))]
    ingest, build = steps_of_night(spark.createDataFrame(runs, JOB_RUNS.schema), NIGHT)
    assert ingest.unaccounted_rows == 1
    assert build.unaccounted_rows is None


def test_rejected_rows_are_counted_by_source_and_reason_with_an_example(spark):
    rows = [
        ("query_log", NIGHT, "empty_query", '{"event_id": "1"}'),
        ("query_log", NIGHT, "robot", '{"event_id": "3"}'),
        ("query_log", NIGHT, "robot", '{"event_id": "2"}'),
        ("catalog", NIGHT, "null_id", "{}"),
        ("catalog", BEFORE, "null_id", "{}"),
        ("catalog_flags", NIGHT, "photo_truncated", "{}"),
    ]
    found = rejections_of_night(spark.createDataFrame(rows, REJECTED_ROWS.schema), NIGHT)
    assert [(r.source, r.reason, r.rows, r.accepted) for r in found] == [
        ("catalog", "null_id", 1, False),
        ("query_log", "robot", 2, False),
        ("query_log", "empty_query", 1, False),
        ("catalog", "photo_truncated", 1, True),
    ]
    assert found[1].example == '{"event_id": "2"}'


def test_refused_rows_of_the_snapshot_are_counted_by_the_category_that_they_name(spark):
    rows = [
        ("catalog", NIGHT, "empty_title", '{"item_id": "1", "category": " hat "}'),
        ("catalog", NIGHT, "null_item_id", '{"category": "hat"}'),
        ("catalog", NIGHT, "empty_title", '{"item_id": "2", "category": ""}'),
        ("catalog", NIGHT, "malformed_line", '3,"a hat'),
        ("catalog", BEFORE, "empty_title", '{"item_id": "1", "category": "hat"}'),
        ("catalog_flags", NIGHT, "photo_truncated", '{"item_id": "4", "category": "hat"}'),
        ("query_log", NIGHT, "robot", '{"category": "hat"}'),
    ]
    rejected = spark.createDataFrame(rows, REJECTED_ROWS.schema)
    assert refused_by_category(rejected, NIGHT) == {"hat": 2, "(no category)": 2}


def test_weights_are_of_active_items_with_a_readable_photo(items, embeddings, failures):
    vectors = vectors_of_night(items, embeddings, failures, model_version=MODEL, date=NIGHT, categories=5)
    assert vectors.image_status == {"ok": 3, "missing": 1, "broken": 0}
    assert vectors.photos == {"dress": {"ok": 2}, "hat": {"missing": 1}, "(no category)": {"ok": 1}}
    assert sum(vectors.histogram) == 3
    assert [c.group for c in vectors.categories] == ["dress", "(no category)"]
    assert vectors.failures == {"not a number in the vector": 1}


def test_the_histogram_equals_numpys(spark):
    weights = np.random.default_rng(3).uniform(0, 1, 200).astype(np.float32)
    weights[:2] = 0.0, 1.0
    items = [(str(n), "t", "c", None, None, None, None, None, "h", True, BEFORE, None, BEFORE) for n in range(200)]
    rows = [(str(n), MODEL, "h", [1.0], 1 - float(w), float(w), 0.0, "ok", "r") for n, w in enumerate(weights)]
    vectors = vectors_of_night(
        spark.createDataFrame(items, ITEMS.schema),
        spark.createDataFrame(rows, ITEM_EMBEDDINGS.schema),
        spark.createDataFrame([], "model_version string, last_attempt date, reason string"),
        model_version=MODEL,
        date=NIGHT,
        categories=1,
    )
    expected, _ = np.histogram(weights, bins=HISTOGRAM_BINS, range=(0, 1))
    assert list(vectors.histogram) == expected.tolist()
    (category,) = vectors.categories
    assert np.allclose([category.low, category.median, category.high], np.quantile(weights, [0.1, 0.5, 0.9]), atol=0.02)


def test_an_unchanged_night_stands_on_the_build_before_it(builds):
    earlier = build_row("b1", date=BEFORE, gates=[gate("recall", 0.99, 0.95)])
    later = build_row("b2", date=NIGHT + dt.timedelta(days=1), status="built")
    found = build_of_night(builds(earlier, later), NIGHT)
    assert (found.build_id, found.logical_date) == ("b1", BEFORE)
    assert [(g.gate, g.figure, g.passed) for g in found.gates] == [("recall", 0.99, True)]


def test_a_night_without_builds_has_none(builds):
    assert build_of_night(builds(), NIGHT) is None
    assert published_build(builds(build_row(status="built"))) is None


def test_the_build_before_is_the_newest_older_one_that_was_published_ever(builds):
    two_days_ago = BEFORE - dt.timedelta(days=1)
    rows = [
        build_row("older", date=two_days_ago, gates=[], status="superseded"),
        build_row("before", date=BEFORE, gates=[], status="superseded"),
        build_row("refused", date=BEFORE, gates=[], status="failed"),
        build_row("serves", date=NIGHT),
        build_row("rolled back from", date=NIGHT + dt.timedelta(days=1), gates=[], status="superseded"),
    ]
    found = build_before(builds(*rows))
    assert (found.build_id, found.is_removed) == ("before", False)
    assert build_before(builds(rows[2], rows[3], rows[4])) is None
    assert build_before(builds(*rows[:2])) is None


def test_a_build_before_whose_folder_is_gone_is_told_as_such_and_not_replaced_by_an_older_one(builds):
    removed = (*build_row("before", date=BEFORE, gates=[], status="removed")[:-1], MIDNIGHT)
    never_published = build_row("tried", date=NIGHT, gates=[], status="removed")
    older = build_row("older", date=BEFORE - dt.timedelta(days=1), gates=[], status="superseded")
    found = build_before(builds(older, removed, never_published, build_row("serves", date=NIGHT)))
    assert (found.build_id, found.is_removed) == ("before", True)


def test_the_published_build_carries_its_hold(builds):
    held = build_row(hold=("ann", "wrong photos", NIGHT))
    found = published_build(builds(held))
    assert (found.held_by, found.hold_reason, found.hold_until) == ("ann", "wrong photos", NIGHT)


@pytest.mark.parametrize(
    ("gate", "figure", "bound", "used"),
    [
        ("recall_at_10", 0.95, 0.9, 0.5),
        ("recall_at_10", 0.8, 0.9, 2.0),
        ("drift", 0.001, 0.01, 0.1),
        ("latency_p95_ms", 150.0, 100.0, 1.5),
        ("integrity", 1.0, 1.0, None),
        ("norms", 0.0, 0.0, None),
        ("judged_recall_at_10", 0.6, 0.59, None),
        ("judged_floor", 0.6, 0.0, None),
        ("recall_at_10", None, 0.9, None),
    ],
)
def test_how_much_of_what_its_bound_allows_a_gate_takes_up_is_told_from_the_side_of_its_bound(
    gate, figure, bound, used
):
    assert Gate(gate, figure, bound, True, True, None).used == (used and pytest.approx(used))


def test_each_of_the_last_nights_is_told_by_its_newest_runs_and_build(spark):
    days = [NIGHT - dt.timedelta(days=n) for n in (30, 2, 0)]
    runs = [
        job_run("embedding items", date=days[0], counts=(9, 9, 0)),
        job_run("embedding items", date=days[1], counts=(9, 5, 0), verdict="failed"),
        job_run("embedding items", date=days[1], counts=(9, 7, 0), minute=5),
        job_run("catalog ingest", date=days[1], counts=(9, 6, 3)),
        job_run("query-log ingest", date=days[1], counts=(9, 8, 1), verdict="failed"),
        job_run("training train", date=days[1]),
        job_run("index build", date=days[2]),
    ]
    builds = [build_row("a", date=days[1], gates=[gate("recall_at_10", 0.97, 0.95), gate("drift", 0.001, 0.01)])]
    runs, builds = spark.createDataFrame(runs, JOB_RUNS.schema), spark.createDataFrame(builds, INDEX_BUILDS.schema)
    assert past_nights(runs, builds, NIGHT, nights=30) == [
        PastNight(
            days[1],
            embedded=7,
            refused=4,
            failed=["query-log ingest"],
            seconds={"embedding items": 10.0, "catalog ingest": 10.0, "query-log ingest": 10.0},
            recall_at_10=0.97,
            drift=0.001,
        ),
        PastNight(
            days[2],
            embedded=None,
            refused=None,
            failed=[],
            seconds={"index build": 10.0},
            recall_at_10=None,
            drift=None,
        ),
    ]


def test_what_went_wrong_on_the_way_is_told_in_order(spark):
    runs = [
        job_run("catalog ingest", verdict="failed", minute=1, notes=["lacks items"], run_id="night"),
        job_run("catalog ingest", minute=5, run_id="night", figures={"attempt": 2.0}),
        job_run("index build", minute=9, figures={"failed_tasks": 3.0}),
        job_run("index check", verdict="failed", minute=7, notes=["judged_floor"], run_id="backfill"),
        job_run("index check", minute=10),
        job_run("index publish", verdict="failed", minute=12, notes=["the step's own line tells it"]),
        job_run("query-log ingest", verdict="failed", minute=3, date=BEFORE),
    ]
    setbacks = setbacks_of_night(spark.createDataFrame(runs, JOB_RUNS.schema), NIGHT)
    assert [(setback.job, setback.run_id, setback.said) for setback in setbacks] == [
        ("catalog ingest", "night", "failed: lacks items"),
        ("catalog ingest", "night", "was try 2 of its task"),
        ("index check", "backfill", "failed: judged_floor"),
        ("index build", "night", "tasks that failed, alone or with their executor, and were done again: 3"),
    ]
