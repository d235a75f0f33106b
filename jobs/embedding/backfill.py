"""Embed the whole catalog under a candidate model, beside the vectors of the model that serves.

Slice by slice: each is found, embedded and merged for itself, so that a run may end after any of them and the next one
goes on.  The night writes under another model, and is never kept waiting.

Reads:  items, item_images, item_embeddings, embedding_failures, models, index_builds, job_runs
Writes: item_embeddings, embedding_failures
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

from pydantic import Field
from pyspark.sql import functions as F

from jobs.core.frames import persisted
from jobs.core.job import JobError, JobRun, JobSkipped, main
from jobs.core.lake import Lake
from jobs.core.lease import held_lease
from jobs.core.serving import find_model, newest_promoted_model, serving_model
from jobs.embedding.plan import say_plan
from jobs.embedding.vectors import EmbeddingOptions, Outcome, embed_rows, lease_name
from jobs.embedding.work import Work, find_work


class Options(EmbeddingOptions):
    """Embed the whole catalog under a candidate model, beside the vectors of the model that serves."""

    model_version: str | None = Field(None, description="The candidate; default: the model promoted last.")
    slice_size: int = Field(50_000, ge=1, description="Items that are embedded and merged at once.")
    max_minutes: float | None = Field(None, gt=0, description="Begin no further slice after so many minutes.")


def candidate_model(lake: Lake) -> str:
    """The model promoted last, unless it serves already.

    Raises:
        JobSkipped: It does, or none was promoted.
    """
    serving = serving_model(lake)
    newest = newest_promoted_model(lake)["model_version"]
    if newest == serving:
        raise JobSkipped(f"{serving} serves and is the model promoted last: the nights embed under it")
    return newest


def run(job: JobRun, options: Options) -> None:
    """Slice after slice, until nothing is left or the time is over; or only say what that would be."""
    if options.plan:
        job.leave_no_record()
    lake = job.lake
    model_version = options.model_version or candidate_model(lake)
    find_model(lake, model_version)
    job.resolve(model_version=model_version)
    if options.plan:
        with _find_work(job, options, model_version) as work:
            say_plan(job, work, model_version=model_version, executors=options.executors)
        return
    began, outcome = time.monotonic(), Outcome()
    while True:
        finding = _find_work(job, options, model_version)
        # Anew for each slice, so that another run may come in between.
        with held_lease(job, lease_name(model_version)) as lease, job.timed("find_work", finding) as work:
            is_late = options.max_minutes is not None and time.monotonic() - began > 60 * options.max_minutes
            # A slice at least, however long it took to find, or runs that ask for another would never end.
            if work.total == 0 or (is_late and outcome != Outcome()):
                break
            in_order = work.rows.orderBy(F.xxhash64("item_id"), "item_id")
            with persisted(in_order.limit(options.slice_size)) as rows:
                size = min(work.total, options.slice_size)
                of_slice = embed_rows(
                    job,
                    options,
                    rows,
                    size,
                    model_version=model_version,
                    known_failures=work.known_failures,
                    lease=lease,
                )
        if of_slice == Outcome():
            raise JobError(f"{size:,} items gave neither vector nor failure; the log file says what the tasks did")
        outcome += of_slice
    _record(job, work, outcome)


def _find_work(job: JobRun, options: Options, model_version: str) -> AbstractContextManager[Work]:
    return find_work(
        job, model_version=model_version, date=options.date, max_attempts=options.max_attempts, full_comparison=True
    )


def _record(job: JobRun, left: Work, outcome: Outcome) -> None:
    job.count(rows_in=left.active_items, rows_out=outcome.embedded, rows_rejected=outcome.failed)
    job.figure("items_left", left.total)
    if left.total:
        job.note(f"{left.total:,} of {left.active_items:,} items are left: run this again")
        job.ask_again()
        return
    # From here on the model's nights go on by the change data feed.
    job.figure("items_version", left.position.items_version)
    job.figure("vectors", left.position.vectors)
    if outcome == Outcome():
        job.unchanged()


if __name__ == "__main__":
    main(run, Options)
