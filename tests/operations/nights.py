"""Rows of a night, for tests: what runs, builds and gates leave behind."""

import datetime as dt

NIGHT = dt.date(2026, 11, 2)
BEFORE = NIGHT - dt.timedelta(days=1)
MODEL = "make-20261101-00000000"
MIDNIGHT = dt.datetime(2026, 11, 2, 1)
SCRIPT = "<script>alert('title')</script>"


def job_run(
    job,
    *,
    verdict="succeeded",
    date=NIGHT,
    minute=0,
    counts=(None, None, None),
    figures=None,
    notes=(),
    run_id="night",
):
    """One row of job_runs: a run of ten seconds, four of them start-up."""
    started = MIDNIGHT + dt.timedelta(minutes=minute)
    finished = started + dt.timedelta(seconds=10)
    seconds = {"startup": 4.0, "read": 6.0}
    return (run_id, job, date, "{}", started, finished, *counts, seconds, figures or {}, verdict, list(notes))


def build_row(build_id="b1", *, date=NIGHT, gates=None, status="published", hold=None):
    """One row of index_builds."""
    published_at = MIDNIGHT if status in ("published", "superseded") else None
    return (build_id, date, MODEL, 3, 4, 2, "Flat", {"items": 1}, gates, status, hold, MIDNIGHT, published_at)


def gate(name, figure, bound, *, passed=True, blocking=True):
    """One gate's figure."""
    return (name, figure, bound, passed, blocking, None)
