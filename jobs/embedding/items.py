"""Embed the active items whose vector is missing or stale.

Reads:  items, item_images, item_embeddings, embedding_failures, models, job_runs
Writes: item_embeddings, embedding_failures
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pandas as pd
import pyarrow as pa
from pydantic import Field
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.core.frames import persisted
from jobs.core.job import DatedOptions, JobError, JobRun, main
from jobs.core.lease import Lease, held_lease
from jobs.core.serving import serving_model
from jobs.embedding.inference import (
    Pace,
    Seconds,
    embed_item_batches,
    open_encoder,
    threads_per_task,
    with_photos,
)
from jobs.embedding.plan import say_plan
from jobs.embedding.staging import (
    read_staged,
    remove_staged,
    staged_rows,
    staging_parts,
    to_arrow,
    write_chunk,
)
from jobs.embedding.work import Work, find_work
from schemas import EMBEDDING_FAILURES, ITEM_EMBEDDINGS, ITEM_IMAGES

_CHUNK_REPORT = "rows long, " + ", ".join(f"{name} double" for name in (*Seconds.STAGES, *Pace.MEASURES))


class Options(DatedOptions):
    """Embed the active items whose vector is missing or stale under the serving model."""

    model_version: str | None = Field(None, description="Embed under this model instead of the serving one.")
    batch_size: int = Field(128, ge=1, le=1024, description="Items that the model sees at once.")
    chunk_size: int = Field(1024, ge=1, description="Items staged at once; what a killed run can lose, a task.")
    max_attempts: int = Field(5, ge=1, description="Nights after which a failing item is left alone.")
    max_failed_share: float = Field(
        0.05, ge=0, le=1, description="Share of the night's items that may fail before nothing is merged."
    )
    plan: bool = Field(False, description="Say what the run would do and cost, and do nothing.")
    executors: int | None = Field(None, ge=1, description="With --plan: also what so many executors would take.")
    full_comparison: bool = Field(
        False, description="Compare all items with all vectors, instead of those that changed since the last run."
    )


def stage_vectors(
    batches: Iterator[pd.DataFrame], *, model_uri: str, folder: str, chunk_size: int, threads: int
) -> Iterator[pd.DataFrame]:
    """The task: embed the partition's batches and stage them chunk by chunk.

    Yields:
        One row a chunk: rows, the seconds spent by stage, and the pace.
    """
    seconds, pace = Seconds(), Pace()

    def stage(waiting: list[pa.Table]) -> pd.DataFrame:
        with seconds.measure("write"):
            rows = write_chunk(folder, waiting)
        return pd.DataFrame([{"rows": rows, **seconds.take(), **pace.take()}])

    with seconds.measure("open"):
        encoder = open_encoder(model_uri, threads)
    waiting, rows = [], 0
    for batch in embed_item_batches(batches, encoder, seconds):
        pace.lap(len(batch.rows))
        waiting.append(to_arrow(batch))
        rows += len(batch.rows)
        if rows >= chunk_size:
            yield stage(waiting)
            waiting, rows = [], 0
    if waiting:
        yield stage(waiting)


def _embed_into_staging(job: JobRun, options: Options, work: DataFrame, total: int, model_version: str) -> None:
    spark, lake = job.spark, job.lake
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", options.batch_size)
    before = staged_rows(lake, model_version)
    arguments = {
        "model_uri": lake.path("models", model_version),
        "folder": lake.path(*staging_parts(model_version)),
        "chunk_size": options.chunk_size,
        "threads": threads_per_task(spark),
    }
    reports = with_photos(work, lake.read(ITEM_IMAGES)).mapInPandas(
        lambda batches: stage_vectors(batches, **arguments), _CHUNK_REPORT
    )
    totals = reports.agg(*(F.sum(name).alias(name) for name in (*Seconds.STAGES, *Pace.MEASURES)))
    with job.stage("embed"), job.progress("embedding items", total, lambda: staged_rows(lake, model_version) - before):
        spent = totals.first()
    for stage in Seconds.STAGES:
        job.add_seconds(stage, spent[stage])
    for measure in Pace.MEASURES:
        job.figure(measure, spent[measure])
    job.figure("slots", spark.sparkContext.defaultParallelism)


def _merge(job: JobRun, options: Options, staged: DataFrame, model_version: str) -> tuple[int, int]:
    """Bring staged vectors and failures into their tables; returns how many of each."""
    lake = job.lake
    of_model = {"model_version": model_version}
    embedded = staged.where("failure IS NULL").select(
        "item_id",
        F.lit(model_version).alias("model_version"),
        "content_hash",
        "embedding",
        "title_weight",
        "image_weight",
        "photo_effect",
        "image_status",
        F.lit(job.run_id).alias("run_id"),
    )
    known = lake.read(EMBEDDING_FAILURES).where(F.col("model_version") == model_version)
    earlier = known.select("item_id", "content_hash", F.col("attempts").alias("earlier"))
    failed = (
        staged.where("failure IS NOT NULL")
        .join(earlier, on=["item_id", "content_hash"], how="left")
        .select(
            "item_id",
            F.lit(model_version).alias("model_version"),
            "content_hash",
            F.col("failure").alias("reason"),
            (F.coalesce("earlier", F.lit(0)) + 1).alias("attempts"),
            F.lit(options.date).alias("last_attempt"),
        )
    )
    totals = staged.agg(F.count("*").alias("rows"), F.count("failure").alias("failed")).first()
    if totals["failed"] > options.max_failed_share * totals["rows"]:
        first = staged.where("failure IS NOT NULL").orderBy("item_id").first()
        raise JobError(
            f"{totals['failed']:,} of {totals['rows']:,} items cannot be embedded by {model_version} (first: "
            f"{first['item_id']}, {first['failure']}); at most {options.max_failed_share:.1%} may. Nothing was merged. "
            "Look at the model and the photos, or raise --max-failed-share."
        )
    lake.merge(ITEM_EMBEDDINGS, embedded, within=of_model)
    lake.merge(EMBEDDING_FAILURES, failed, within=of_model)
    recovered = known.join(embedded, on="item_id", how="left_semi")
    if not recovered.isEmpty():
        same_item = (F.col("t.item_id") == F.col("s.item_id")) & (F.col("t.model_version") == F.lit(model_version))
        failures = lake.delta(EMBEDDING_FAILURES).alias("t")
        failures.merge(recovered.alias("s"), same_item).whenMatchedDelete().execute()
    return totals["rows"] - totals["failed"], totals["failed"]


def run(job: JobRun, options: Options) -> None:
    """Find the work, embed it into staging, merge, forget the staging; or only say what that would be."""
    model_version = options.model_version or serving_model(job.lake)
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
    with ExitStack() as stack:
        lease = stack.enter_context(held_lease(job, f"{ITEM_EMBEDDINGS.name}-{model_version}"))
        with job.stage("find_work"):
            work = stack.enter_context(finding)
        job.figure("items_version", work.position.items_version)
        for reason, count in work.by_reason.items():
            job.figure(f"items_{reason}", count)
        if work.total:
            _embed(job, options, work, model_version, lease)
        else:
            remove_staged(job.lake, model_version)
            job.count(rows_in=work.active_items, rows_out=0, rows_rejected=0)
            job.figure("vectors", work.position.vectors)
            job.unchanged()


def _embed(job: JobRun, options: Options, work: Work, model_version: str, lease: Lease) -> None:
    lake = job.lake
    # What failed is tried again: the night may have been stopped for it, and its cause be mended since.
    staged_before = read_staged(job.spark, lake, model_version).where("failure IS NULL")
    staged_before = staged_before.select("item_id", "content_hash")
    with persisted(work.rows.join(staged_before, on=["item_id", "content_hash"], how="left_anti")) as unstaged:
        left = unstaged.count()
        if left < work.total:
            job.note(f"{work.total - left:,} of {work.total:,} vectors were found staged by an earlier run")
        if left:
            _embed_into_staging(job, options, unstaged, left, model_version)
    lease.check()
    with job.stage("merge"):
        current = work.rows.select("item_id", "content_hash")
        staged = read_staged(job.spark, lake, model_version).join(
            current, on=["item_id", "content_hash"], how="left_semi"
        )
        embedded, failed = _merge(job, options, staged, model_version)
        remove_staged(lake, model_version)
    job.count(rows_in=work.active_items, rows_out=embedded, rows_rejected=failed)
    vectors = lake.read(ITEM_EMBEDDINGS).where(F.col("model_version") == model_version)
    statuses = {row["image_status"]: row["count"] for row in vectors.groupBy("image_status").count().collect()}
    for status, count in statuses.items():
        job.figure(f"image_{status}", count)
    job.figure("vectors", sum(statuses.values()))


if __name__ == "__main__":
    main(run, Options)
