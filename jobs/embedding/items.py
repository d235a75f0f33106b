"""Embed the active items whose vector is missing or stale.

Reads:  items, item_images, item_embeddings, embedding_failures, models
Writes: item_embeddings, embedding_failures
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pandas as pd
from pydantic import Field
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.core.job import DatedOptions, JobError, JobRun, main
from jobs.core.serving import serving_model
from jobs.embedding.inference import Seconds, embed_item_batches, open_encoder, threads_per_task, with_photos
from jobs.embedding.staging import (
    read_staged,
    remove_staged,
    staged_rows,
    staging_parts,
    to_arrow,
    write_chunk,
)
from schemas import EMBEDDING_FAILURES, ITEM_EMBEDDINGS, ITEM_IMAGES, ITEMS

_CHUNK_REPORT = "rows long, " + ", ".join(f"{stage} double" for stage in Seconds.STAGES)


class Options(DatedOptions):
    """Embed the active items whose vector is missing or stale under the serving model."""

    model_version: str | None = Field(None, description="Embed under this model instead of the serving one.")
    batch_size: int = Field(128, ge=1, le=1024, description="Items that the model sees at once.")
    chunk_size: int = Field(1024, ge=1, description="Items staged at once; what a killed run can lose, a task.")
    max_attempts: int = Field(5, ge=1, description="Nights after which a failing item is left alone.")
    max_failed_share: float = Field(
        0.05, ge=0, le=1, description="Share of the night's items that may fail before nothing is merged."
    )


def stale_items(items: DataFrame, embeddings: DataFrame, *, model_version: str) -> DataFrame:
    """Active items with no vector of this model for their present content.  A pure anti-join: no state, no clock."""
    same_content = (F.col("i.item_id") == F.col("e.item_id")) & (F.col("i.content_hash") == F.col("e.content_hash"))
    of_model = embeddings.where(F.col("model_version") == model_version)
    return items.where("is_active").alias("i").join(of_model.alias("e"), on=same_content, how="left_anti")


def without_spent_retries(
    stale: DataFrame, failures: DataFrame, *, model_version: str, date: dt.date, max_attempts: int
) -> DataFrame:
    """Leave out items that failed with this content too often, or today already (one attempt a logical date)."""
    spent = failures.where(F.col("model_version") == model_version).where(
        (F.col("attempts") >= max_attempts) | (F.col("last_attempt") >= F.lit(date))
    )
    same_content = (F.col("i.item_id") == F.col("f.item_id")) & (F.col("i.content_hash") == F.col("f.content_hash"))
    return stale.alias("i").join(spent.alias("f"), on=same_content, how="left_anti")


def stage_vectors(
    batches: Iterator[pd.DataFrame], *, model_uri: str, folder: str, chunk_size: int, threads: int
) -> Iterator[pd.DataFrame]:
    """The task: embed the partition's batches and stage them chunk by chunk.

    Yields:
        One row a chunk: rows, and the seconds spent by stage.
    """
    encoder = open_encoder(model_uri, threads)
    seconds = Seconds()
    waiting, rows = [], 0
    for batch in embed_item_batches(batches, encoder, seconds):
        waiting.append(to_arrow(batch))
        rows += len(batch.rows)
        if rows >= chunk_size:
            yield _stage_chunk(folder, waiting, seconds)
            waiting, rows = [], 0
    if waiting:
        yield _stage_chunk(folder, waiting, seconds)


def _stage_chunk(folder: str, waiting: list, seconds: Seconds) -> pd.DataFrame:
    with seconds.measure("write"):
        rows = write_chunk(folder, waiting)
    return pd.DataFrame([{"rows": rows, **seconds.take()}])


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
    totals = reports.agg(*(F.sum(name).alias(name) for name in Seconds.STAGES))
    with job.stage("embed"), job.progress("embedding items", total, lambda: staged_rows(lake, model_version) - before):
        spent = totals.first()
    for stage in Seconds.STAGES:
        job.add_seconds(stage, spent[stage])


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
    """Find the work, embed it into staging, merge, forget the staging."""
    lake = job.lake
    model_version = options.model_version or serving_model(lake)
    with job.stage("find_work"):
        items = lake.read(ITEMS)
        active = items.where("is_active").count()
        stale = stale_items(items, lake.read(ITEM_EMBEDDINGS), model_version=model_version)
        # Not a cache: that would follow item_embeddings, and be empty once the merge has written to it.
        wanted = without_spent_retries(
            stale,
            lake.read(EMBEDDING_FAILURES),
            model_version=model_version,
            date=options.date,
            max_attempts=options.max_attempts,
        ).localCheckpoint()
        total = wanted.count()
    job.figure("active_items", active)
    if total == 0:
        job.count(rows_in=active, rows_out=0, rows_rejected=0)
        remove_staged(lake, model_version)
        job.unchanged()
        return
    staged_before = read_staged(job.spark, lake, model_version).select("item_id", "content_hash")
    work = wanted.join(staged_before, on=["item_id", "content_hash"], how="left_anti").cache()
    left = work.count()
    if left < total:
        job.note(f"{total - left:,} of {total:,} vectors were found staged by an earlier run")
    if left:
        _embed_into_staging(job, options, work, left, model_version)
    with job.stage("merge"):
        current = wanted.select("item_id", "content_hash")
        staged = read_staged(job.spark, lake, model_version).join(
            current, on=["item_id", "content_hash"], how="left_semi"
        )
        embedded, failed = _merge(job, options, staged, model_version)
        remove_staged(lake, model_version)
    job.count(rows_in=active, rows_out=embedded, rows_rejected=failed)
    for row in (
        lake.read(ITEM_EMBEDDINGS)
        .where(F.col("model_version") == model_version)
        .groupBy("image_status")
        .count()
        .collect()
    ):
        job.figure(f"image_{row['image_status']}", row["count"])


if __name__ == "__main__":
    main(run, Options)
