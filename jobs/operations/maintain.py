"""Let go of what need not be kept: vectors of models that serve no more and of items long gone, and old events.

Reads:  items, models, index_builds, job_runs
Writes: models, item_embeddings, embedding_failures, query_embeddings, query_events, staging/
"""

from __future__ import annotations

import datetime as dt

from pydantic import Field
from pyspark.sql import functions as F

from jobs.core.job import DatedOptions, JobRun, main
from jobs.core.lake import Lake
from jobs.core.lease import held_lease
from jobs.core.serving import newest_promoted_model
from jobs.embedding.staging import remove_staged
from jobs.embedding.vectors import lease_name
from jobs.index.builds import published_build
from schemas import (
    EMBEDDING_FAILURES,
    INDEX_BUILDS,
    ITEM_EMBEDDINGS,
    ITEMS,
    JOB_RUNS,
    MODELS,
    QUERY_EMBEDDINGS,
    QUERY_EVENTS,
)

OF_A_MODEL = (ITEM_EMBEDDINGS, EMBEDDING_FAILURES, QUERY_EMBEDDINGS)


class Options(DatedOptions):
    """Let go of vectors of models that serve no more and of items long gone, and of old events."""

    retire_after_days: int = Field(
        30, ge=1, description="Days without a night or a build under it, after which a model's vectors go."
    )
    delisted_days: int = Field(90, ge=0, description="Days that the vectors of a delisted item are kept.")
    query_event_days: int = Field(400, ge=31, description="Days that events of the query log are kept.")


def last_uses(lake: Lake) -> dict[str, dt.date]:
    """Model version to the last date for which it embedded items or was indexed, or on which it was made."""
    embedded = lake.read(JOB_RUNS).where("job IN ('embedding items', 'embedding backfill')")
    named = F.get_json_object("arguments", "$.model_version").alias("model_version")
    made = F.to_date(F.greatest("created_at", "promoted_at")).alias("logical_date")
    used = (
        embedded.select(named, "logical_date")
        .unionByName(lake.read(INDEX_BUILDS).select("model_version", "logical_date"))
        .unionByName(lake.read(MODELS).select("model_version", made))
        .where("model_version IS NOT NULL")
    )
    return dict(used.groupBy("model_version").agg(F.max("logical_date")).collect())


def versions_with_rows(lake: Lake) -> list[str]:
    """The models that a table of vectors or failures has rows of, in order."""
    versions = [lake.read(table).select("model_version").distinct().collect() for table in OF_A_MODEL]
    return sorted({row["model_version"] for rows in versions for row in rows})


def run(job: JobRun, options: Options) -> None:
    """Model after model: all its vectors where it is retired, else those of items long gone.  Then old events."""
    lake = job.lake
    in_use = {row["model_version"] for row in (published_build(lake), newest_promoted_model(lake)) if row is not None}
    uses = last_uses(lake)
    unused_since = options.date - dt.timedelta(days=options.retire_after_days)
    gone_before = options.date - dt.timedelta(days=options.delisted_days)
    gone = lake.read(ITEMS).where(F.col("inactive_since") < F.lit(gone_before)).select("item_id")
    retired = delisted = 0
    with job.stage("vectors"):
        for version in versions_with_rows(lake):
            # What another program wrote, and no run knows of, counts as used.
            last_use = uses.get(version, options.date)
            with held_lease(job, lease_name(version)):
                if version in in_use or last_use >= unused_since:
                    of_model = {"model_version": version}
                    for table in (ITEM_EMBEDDINGS, EMBEDDING_FAILURES):
                        delisted += lake.delete_matching(table, gone, within=of_model)
                else:
                    retired += retire_model(lake, version)
                    job.note(f"{version} is retired: nothing was embedded or indexed under it since {last_use}")
    with job.stage("events"):
        kept_from = options.date - dt.timedelta(days=options.query_event_days)
        events = lake.delete(QUERY_EVENTS, F.col("event_date") < F.lit(kept_from))
    job.figure("rows_of_retired_models", retired)
    job.figure("rows_of_delisted_items", delisted)
    job.figure("query_events", events)
    job.count(rows_out=retired + delisted + events)
    if not retired + delisted + events:
        job.unchanged()


def retire_model(lake: Lake, version: str) -> int:
    """Forget what a model embedded, and what it could not; its folder and its builds stay.

    Returns:
        How many rows that were.
    """
    of_model = F.col("model_version") == version
    removed = sum(lake.delete(table, of_model) for table in OF_A_MODEL)
    remove_staged(lake, version)
    lake.delta(MODELS).update(of_model & (F.col("stage") != "retired"), {"stage": F.lit("retired")})
    return removed


if __name__ == "__main__":
    main(run, Options)
