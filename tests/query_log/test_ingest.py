"""The log comes in clean: every row is an event or a refusal with its reason, and a second run changes nothing."""

import datetime as dt
import json

import pandas as pd
import pytest
from pydantic import ValidationError

from jobs.query_log import ingest
from schemas import ITEMS, QUERY_EVENTS, REJECTED_ROWS

FIRST, LAST = dt.date(2026, 11, 1), dt.date(2026, 11, 3)
GOOD = {
    "event_id": "e1",
    "event_ts": "2026-11-03 10:00:00",
    "session_id": "s1",
    "query": "Red  Dress",
    "item_id": "a",
    "event_type": "click",
    "position": "2",
}


def event(**changes) -> dict:
    return GOOD | changes


@pytest.fixture
def catalog(spark, lake):
    rows = [
        (
            item_id,
            f"title {item_id}",
            None,
            None,
            None,
            None,
            None,
            None,
            item_id,
            active,
            FIRST,
            None if active else LAST,
            LAST,
        )
        for item_id, active in (("a", True), ("gone", False))
    ]
    lake.append(ITEMS, spark.createDataFrame(rows, ITEMS.schema))


@pytest.fixture
def ingest_log(run_job, catalog, tmp_path):
    """Runs the job over the given rows and returns its record."""

    def execute(*rows: dict, **options):
        log = tmp_path / "log.jsonl"
        log.write_text("".join(json.dumps(row) + "\n" if isinstance(row, dict) else row + "\n" for row in rows))
        return run_job(ingest, query_log=str(log), **{"date": LAST, **options})

    return execute


def refusals(lake) -> list[tuple]:
    rows = lake.read(REJECTED_ROWS).collect()
    return sorted((r["logical_date"], r["reason"], json.loads(r["row"]).get("event_id")) for r in rows)


def content(lake) -> tuple:
    return sorted(map(tuple, lake.read(QUERY_EVENTS).collect())), sorted(map(tuple, lake.read(REJECTED_ROWS).collect()))


def test_a_good_row_becomes_an_event_with_its_query_in_normal_form(ingest_log, lake):
    record = ingest_log(event())
    assert (record.rows_in, record.rows_out, record.rows_rejected) == (1, 1, 0)
    stored = lake.read(QUERY_EVENTS).first().asDict()
    assert stored == {
        "event_id": "e1",
        "event_date": LAST,
        "event_ts": dt.datetime(2026, 11, 3, 10),
        "session_id": "s1",
        "query": "red dress",
        "item_id": "a",
        "event_type": "click",
        "position": 2,
    }


BAD_ROWS = {
    "malformed_line": '{"event_id": "x", "event_ts": ',
    "missing_event_id": event(event_id=None),
    "bad_timestamp": event(event_id="x", event_ts="soon"),
    "future_clock": event(event_id="x", event_ts="2026-11-04 00:00:00"),
    "missing_session": event(event_id="x", session_id=" "),
    "bad_event_type": event(event_id="x", event_type="hover"),
    "bad_position": event(event_id="x", position="0"),
    "empty_query": event(event_id="x", query="\u3000 "),
    "junk_query": event(event_id="x", query="\u200b?!"),
    "query_too_long": event(event_id="x", query="x" * 201),
    "unknown_item": event(event_id="x", item_id="nowhere"),
}


def test_every_kind_of_bad_row_is_refused_for_its_reason_and_counted(ingest_log, lake):
    variants = {
        "bad_event_type": [event(event_id="y", event_type=None)],
        "bad_position": [event(event_id="y", position="first"), event(event_id="z", position="1.5")],
        "empty_query": [event(event_id="y", query=None)],
        "unknown_item": [event(event_id="y", item_id=None)],
    }
    rows = [*BAD_ROWS.values(), *(row for rows in variants.values() for row in rows)]
    record = ingest_log(event(), *rows)
    expected = {reason: 1 + len(variants.get(reason, [])) for reason in BAD_ROWS}
    assert {name.removeprefix("rejected_"): n for name, n in record.figures.items()} == expected
    assert record.rows_in == record.rows_out + record.rows_rejected == 1 + len(rows)
    assert pd.Series([reason for _, reason, _ in refusals(lake)]).value_counts().to_dict() == expected


def test_a_refused_row_is_kept_as_it_came(ingest_log, lake):
    ingest_log(event(query="  ?! ", item_id="nowhere"))
    assert json.loads(lake.read(REJECTED_ROWS).first()["row"]) == event(query="  ?! ", item_id="nowhere")


def test_an_item_that_left_the_catalog_is_still_known(ingest_log):
    assert ingest_log(event(item_id="gone")).rows_out == 1


def test_a_position_that_the_log_does_not_have_is_null_and_no_fault(ingest_log, lake):
    rows = [{k: v for k, v in event(event_id=i).items() if k != "position"} for i in ("e1", "e2")]
    assert ingest_log(*rows).rows_out == 2
    assert {r["position"] for r in lake.read(QUERY_EVENTS).collect()} == {None}


def test_of_repeated_deliveries_the_earliest_good_one_is_taken(ingest_log, lake):
    ingest_log(
        event(item_id="nowhere", event_ts="2026-11-03 08:00:00"),
        event(),
        event(query="red dress"),
        event(event_ts="2026-11-03 11:00:00"),
    )
    assert [r["event_ts"].hour for r in lake.read(QUERY_EVENTS).collect()] == [10]
    assert [r for _, r, _ in refusals(lake)] == ["conflicting_delivery", "repeated_delivery", "unknown_item"]


def test_a_session_with_more_events_on_a_date_than_a_person_has_is_a_robot(ingest_log):
    robot = [event(event_id=f"r{i}", session_id="bot") for i in range(4)]
    next_day = event(event_id="p", session_id="bot", event_ts="2026-11-02 10:00:00")
    record = ingest_log(event(), next_day, *robot, robot_events=3, start=FIRST)
    assert record.figures == {"rejected_robot": 4}
    assert record.rows_out == 2


LOG_OF_THREE_DAYS = [
    event(),
    event(event_id="e2", event_ts="2026-11-01 23:59:59"),
    event(event_id="e3", event_ts="2026-11-02 00:00:00", query="礼服"),
    event(event_id="e3", event_ts="2026-11-03 00:00:00", query="礼服"),
    event(event_id="e4", event_ts="2026-11-02 01:00:00", query="?"),
    event(event_id="e4", event_ts="2026-11-01 01:00:00", query="?"),
    event(event_id="e5", event_ts="2026-10-31 12:00:00"),
    event(event_id="e6", event_ts="2027-01-01 12:00:00"),
    event(event_id="e7", event_ts="yesterday"),
]


def test_day_by_day_and_as_one_range_give_the_same_tables(ingest_log, lake):
    days = [FIRST + dt.timedelta(days=n) for n in range(3)]
    records = [ingest_log(*LOG_OF_THREE_DAYS, start=day, end=day) for day in days]
    by_day = content(lake)
    for record in records:
        assert record.rows_in == record.rows_out + record.rows_rejected
    assert sum(record.rows_in for record in records) == len(LOG_OF_THREE_DAYS) - 1  # October is no run's business
    assert refusals(lake) == [
        (days[0], "junk_query", "e4"),
        (days[1], "junk_query", "e4"),
        (days[2], "bad_timestamp", "e7"),
        (days[2], "conflicting_delivery", "e3"),
        (days[2], "future_clock", "e6"),
    ]
    as_range = ingest_log(*LOG_OF_THREE_DAYS, start=FIRST)
    assert as_range.verdict == "unchanged"
    assert content(lake) == by_day


def test_a_second_run_writes_no_version_and_changed_input_is_applied(ingest_log, lake):
    assert ingest_log(event(), event(event_id="x", query="?")).verdict == "succeeded"
    versions = lake.versions(QUERY_EVENTS, REJECTED_ROWS)
    assert ingest_log(event(event_id="x", query="?"), event()).verdict == "unchanged"
    assert lake.versions(QUERY_EVENTS, REJECTED_ROWS) == versions
    assert ingest_log(event(event_id="x", query="shoes"), event()).verdict == "succeeded"
    assert {r["query"] for r in lake.read(QUERY_EVENTS).collect()} == {"red dress", "shoes"}
    assert lake.read(REJECTED_ROWS).isEmpty()


def test_a_run_leaves_the_dates_of_other_runs_alone(ingest_log, lake):
    ingest_log(event(event_id="old", event_ts="2026-11-01 10:00:00"), date=FIRST)
    ingest_log(event())
    assert {r["event_id"] for r in lake.read(QUERY_EVENTS).collect()} == {"old", "e1"}


def test_an_old_date_run_again_over_a_longer_log_refuses_none_of_the_newer_dates(ingest_log, lake):
    old, newer = event(event_id="old", event_ts="2026-11-01 10:00:00"), event()
    ahead = event(event_id="ahead", event_ts="2027-01-01 10:00:00")
    ingest_log(old, ahead, date=FIRST)
    ingest_log(newer)
    events = sorted(map(tuple, lake.read(QUERY_EVENTS).collect()))
    assert ingest_log(old, newer, ahead, date=FIRST).verdict == "unchanged"
    assert sorted(map(tuple, lake.read(QUERY_EVENTS).collect())) == events
    assert refusals(lake) == [(FIRST, "future_clock", "ahead")]


def test_dates_out_of_order_are_refused_before_anything_starts():
    with pytest.raises(ValidationError, match="expected --start <= --end <= --date, got 2026-11-03, 2026-11-01"):
        ingest.Options(date=LAST, end=FIRST, start=LAST, query_log="log.csv")


def test_a_log_without_a_needed_column_fails_and_names_it(run_job, catalog, tmp_path):
    pd.DataFrame([event()]).drop(columns="session_id").to_csv(tmp_path / "log.csv", index=False)
    record = run_job(ingest, query_log=str(tmp_path / "log.csv"), date=LAST)
    assert record.verdict == "failed"
    assert "lacks ['session_id']" in record.notes[0]
