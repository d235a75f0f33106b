"""The last night as Prometheus reads it: a file for the textfile collector of node-exporter."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

if TYPE_CHECKING:
    from jobs.operations.report import Page


def write_metrics(page: Page, file: Path) -> None:
    """Write the night's figures; the file is replaced at once, so that a scrape never reads half of one.

    Args:
        page: What the night's page shows.
        file: Its folder is there; node-exporter wants a name that ends in .prom.
    """
    write_to_textfile(str(file), night_metrics(page))


def night_metrics(page: Page) -> CollectorRegistry:
    """The night's figures.  What the night has not measured is absent."""
    registry = CollectorRegistry()

    def gauge(name: str, comment: str, *labels: str) -> Gauge:
        return Gauge(f"make_{name}", comment, labels, registry=registry)

    midnight = dt.datetime.combine(page.date, dt.time(), dt.UTC)
    gauge("night_date_seconds", "Logical date of the night, as seconds since 1970.").set(midnight.timestamp())
    light = gauge("night_light", "1 for the night's light: green, amber or red.", "light")
    for colour in ("green", "amber", "red"):
        light.labels(colour).set(colour == page.verdict.light)

    succeeded = gauge("job_succeeded", "1 when the job succeeded or had nothing to change.", "job")
    seconds = gauge("job_seconds", "Wall seconds of the job.", "job")
    rows = gauge("job_rows", "Rows of the job: in, out, rejected.", "job", "kind")
    for step in page.steps:
        succeeded.labels(step.job).set(step.verdict in ("succeeded", "unchanged"))
        seconds.labels(step.job).set(step.wall_seconds)
        counts = {"in": step.rows_in, "out": step.rows_out, "rejected": step.rows_rejected}
        for kind, count in counts.items():
            if count is not None:
                rows.labels(step.job, kind).set(count)

    items = gauge("items", "Items by what the night's snapshot did to them.", "change")
    for change in ("active", "new", "changed", "unchanged", "gone"):
        items.labels(change).set(getattr(page.catalog, change))
    refused = gauge("rows_recorded", "Rows that were refused, or accepted with a flaw.", "source", "reason", "accepted")
    for rejection in page.rejections:
        refused.labels(rejection.source, rejection.reason, str(rejection.accepted).lower()).set(rejection.rows)

    figure = gauge("gate_figure", "Figure of the build at a gate.", "gate")
    bound = gauge("gate_bound", "Bound of the gate.", "gate")
    holds = gauge("gate_holds", "1 when the build keeps the bound.", "gate", "blocking")
    for gate in (page.build and page.build.gates) or ():
        holds.labels(gate.gate, str(gate.blocking).lower()).set(gate.passed)
        for measured, value in ((figure, gate.figure), (bound, gate.bound)):
            if value is not None:
                measured.labels(gate.gate).set(value)

    if page.published is not None:
        served = gauge("published_items", "Items of the build that serves.", "build_id", "model_version")
        served.labels(page.published.build_id, page.published.model_version).set(page.published.items)
        held = gauge("publishing_held", "1 while nights may not publish.")
        held.set(page.published.holds(page.date))
    return registry
