"""Embed the active items whose vector is missing or stale.

Reads:  items, item_images, item_embeddings, embedding_failures, models, index_builds, job_runs
Writes: item_embeddings, embedding_failures
"""

from __future__ import annotations

from pydantic import Field

from jobs.core.job import JobRun, main
from jobs.core.lease import held_lease
from jobs.core.serving import named_model
from jobs.embedding.plan import say_plan
from jobs.embedding.staging import remove_staged
from jobs.embedding.vectors import EmbeddingOptions, embed_rows, lease_name
from jobs.embedding.work import find_work


class Options(EmbeddingOptions):
    """Embed the active items whose vector is missing or stale under the serving model."""

    model_version: str | None = Field(
        None, description="Embed under this model instead of the serving one; 'promoted': the last one promoted."
    )
    full_comparison: bool = Field(
        False, description="Compare all items with all vectors, instead of those that changed since the last run."
    )


def run(job: JobRun, options: Options) -> None:
    """Find the work, embed it into staging, merge, forget the staging; or only say what that would be."""
    if options.plan:
        job.leave_no_record()
    lake = job.lake
    model_version = named_model(lake, options.model_version)
    job.resolve(model_version=model_version)
    finding = find_work(
        job,
        model_version=model_version,
        date=options.date,
        max_attempts=options.max_attempts,
        full_comparison=options.full_comparison,
    )
    if options.plan:
        with finding as work:
            say_plan(job, work, model_version=model_version, executors=options.executors)
        return
    with held_lease(job, lease_name(model_version)) as lease, job.timed("find_work", finding) as work:
        job.figure("items_version", work.position.items_version)
        for reason, count in work.by_reason.items():
            job.figure(f"items_{reason}", count)
        if work.total == 0:
            remove_staged(lake, model_version)
            job.count(rows_in=work.active_items, rows_out=0, rows_rejected=0)
            job.figure("vectors", work.position.vectors)
            job.unchanged()
            return
        outcome = embed_rows(
            job,
            options,
            work.rows,
            work.total,
            model_version=model_version,
            known_failures=work.known_failures,
            lease=lease,
        )
    job.count(rows_in=work.active_items, rows_out=outcome.embedded, rows_rejected=outcome.failed)
    job.figure("vectors", work.position.vectors + outcome.added)


if __name__ == "__main__":
    main(run, Options)
