"""The light is green only when a person has nothing to do."""

import dataclasses
import datetime as dt

from jobs.operations import verdict as verdicts
from jobs.operations.night import CHAIN, Build, Gate, Step

NIGHT = dt.date(2026, 11, 2)
GATE = Gate("recall_at_10", figure=0.99, bound=0.95, passed=True, blocking=True, detail=None)
BUILD = Build("b1", NIGHT, "m", 3, 1, "Flat", "published", [GATE], None, None, None)


def step(job, verdict="succeeded", notes=(), **counts):
    start = dt.datetime(2026, 11, 2)
    rows = {"rows_in": None, "rows_out": None, "rows_rejected": None, **counts}
    return Step(job, "r", verdict, start, start, **rows, seconds={}, figures={}, notes=notes)


def judge(steps, build, published):
    return verdicts.judge(steps, build, published, date=NIGHT)


WHOLE = [step(job) for job in CHAIN]


def test_a_whole_night_with_a_published_build_is_green():
    verdict = judge(WHOLE, BUILD, BUILD)
    assert verdict.light == "green"
    assert not verdict.reasons
    assert "b1" in verdict.headline


def test_an_unchanged_night_is_green():
    assert judge([step(job, "unchanged") for job in CHAIN], BUILD, BUILD).light == "green"


def test_a_failed_step_is_red_and_says_what_it_said():
    verdict = judge([step("catalog ingest", "failed", ["it would deactivate 900 of 1,000"])], None, BUILD)
    assert verdict.light == "red"
    assert verdict.reasons == ["catalog ingest failed: it would deactivate 900 of 1,000"]


def test_a_missed_blocking_gate_is_red_with_figure_and_bound():
    missed = dataclasses.replace(GATE, figure=0.8, passed=False)
    verdict = judge(WHOLE, dataclasses.replace(BUILD, gates=[missed], status="failed"), BUILD)
    assert verdict.light == "red"
    assert verdict.reasons == ["gate recall_at_10 missed its bound: 0.8 against 0.95"]


def test_a_missed_gate_that_only_reports_keeps_the_night_green():
    reported = dataclasses.replace(GATE, passed=False, blocking=False)
    build = dataclasses.replace(BUILD, gates=[reported])
    assert judge(WHOLE, build, build).light == "green"


def test_a_skipped_night_says_its_reason_once():
    skipped = [step(job, "skipped", ["no promoted model"]) for job in CHAIN[2:]]
    verdict = judge([*WHOLE[:2], *skipped], None, None)
    assert verdict.light == "amber"
    assert verdict.reasons == ["embedding items skipped: no promoted model"]


def test_a_step_that_never_ran_is_named():
    verdict = judge(WHOLE[:-1], BUILD, BUILD)
    assert verdict.light == "amber"
    assert verdict.reasons == ["no run is recorded of index publish"]


def test_a_hold_says_who_why_and_until_when():
    held = dataclasses.replace(BUILD, held_by="ann", hold_reason="wrong photos", hold_until=NIGHT)
    verdict = judge(WHOLE, held, held)
    assert verdict.light == "amber"
    assert verdict.reasons == ["publishing is on hold until 2026-11-02 by ann: wrong photos"]


def test_a_hold_that_has_run_out_keeps_no_night_from_green():
    held = dataclasses.replace(BUILD, held_by="ann", hold_reason="x", hold_until=NIGHT - dt.timedelta(days=1))
    assert judge(WHOLE, held, held).light == "green"


def test_rows_that_an_ingest_lost_are_named():
    lossy = step("catalog ingest", rows_in=10, rows_out=6, rows_rejected=3)
    verdict = judge([lossy, *WHOLE[1:]], BUILD, BUILD)
    assert verdict.light == "amber"
    assert verdict.reasons == ["catalog ingest: 1 rows neither accepted nor rejected"]


def test_a_night_with_nothing_published_is_not_green():
    assert judge(WHOLE, BUILD, None).light == "amber"
