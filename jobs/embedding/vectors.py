"""From items to rows of `item_embeddings`: embedded by tasks, staged in chunks, merged as a whole."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
from pydantic import Field, model_validator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.core.frames import persisted
from jobs.core.job import DatedOptions, JobError, JobRun
from jobs.core.lease import Lease
from jobs.embedding.inference import (
    Pace,
    Seconds,
    embed_item_batches,
    open_encoder,
    threads_per_task,
    with_photos,
)
from jobs.embedding.staging import (
    read_staged,
    remove_staged,
    staged_rows,
    staging_parts,
    to_arrow,
    write_chunk,
)
from schemas import EMBEDDING_FAILURES, ITEM_EMBEDDINGS, ITEM_IMAGES

_CHUNK_REPORT = "rows long, " + ", ".join(f"{name} double" for name in (*Seconds.STAGES, *Pace.MEASURES))


class EmbeddingOptions(DatedOptions):
    """What every job that embeds items takes."""

    batch_size: int = Field(128, ge=1, le=1024, description="Items that the model sees at once.")
    chunk_size: int = Field(1024, ge=1, description="Items staged at once; what a killed run can lose, a task.")
    max_attempts: int = Field(5, ge=1, description="Nights after which a failing item is left alone.")
    max_failed_share: float = Field(
        0.05, ge=0, le=1, description="Share of the items that may fail before nothing is merged."
    )
    plan: bool = Field(False, description="Say what the run would do and cost, and do nothing.")
    executors: int | None = Field(None, ge=1, description="With --plan: also what so many executors would take.")

    @model_validator(mode="after")
    def _executors_of_a_plan(self) -> EmbeddingOptions:
        if self.executors is not None and not self.plan:
            raise ValueError("--executors only goes with --plan: how many a run has is Spark's to say")
        return self


def lease_name(model_version: str) -> str:
    """The lease of whoever writes the model's vectors."""
    return f"{ITEM_EMBEDDINGS.name}-{model_version}"


def embed_rows(
    job: JobRun, options: EmbeddingOptions, rows: DataFrame, total: int, *, model_version: str, lease: Lease
) -> tuple[int, int]:
    """Give items the model's vectors, or failures that say why not.

    Args:
        job: The run.
        options: Its options.
        rows: item_id, content_hash, title, image_sha256; the same whenever it is computed.
        total: How many rows those are.
        model_version: A model of the lake.
        lease: Held on the model's vectors.

    Returns:
        How many items were embedded, and how many failed.

    Raises:
        JobError: Too many failed, or the lease was lost; nothing was merged.
    """
    lake, key = job.lake, ["item_id", "content_hash"]
    # What failed is tried again: a run may have been stopped for it, and its cause be mended since.
    staged_before = read_staged(job.spark, lake, model_version).where("failure IS NULL").select(key)
    with persisted(rows.join(staged_before, on=key, how="left_anti")) as unstaged:
        left = unstaged.count()
        if left < total:
            job.note(f"{total - left:,} of {total:,} vectors were found staged by an earlier run")
        if left:
            _embed_into_staging(job, options, unstaged, left, model_version)
    lease.check()
    with job.stage("merge"):
        staged = read_staged(job.spark, lake, model_version).join(rows.select(key), on=key, how="left_semi")
        counts = _merge(job, options, staged, model_version)
        remove_staged(lake, model_version)
    return counts


def _embed_into_staging(
    job: JobRun, options: EmbeddingOptions, rows: DataFrame, total: int, model_version: str
) -> None:
    spark, lake = job.spark, job.lake
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", options.batch_size)
    before = staged_rows(lake, model_version)
    arguments = {
        "model_uri": lake.path("models", model_version),
        "folder": lake.path(*staging_parts(model_version)),
        "chunk_size": options.chunk_size,
        "threads": threads_per_task(spark),
    }
    reports = with_photos(rows, lake.read(ITEM_IMAGES)).mapInPandas(
        lambda batches: stage_vectors(batches, **arguments), _CHUNK_REPORT
    )
    totals = reports.agg(*(F.sum(name).alias(name) for name in (*Seconds.STAGES, *Pace.MEASURES)))
    with job.stage("embed"), job.progress(job.name, total, lambda: staged_rows(lake, model_version) - before):
        spent = totals.first()
    for stage in Seconds.STAGES:
        job.add_seconds(stage, spent[stage])
    for measure in Pace.MEASURES:
        job.figure(measure, spent[measure])
    job.figure("slots", spark.sparkContext.defaultParallelism)


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


def _merge(job: JobRun, options: EmbeddingOptions, staged: DataFrame, model_version: str) -> tuple[int, int]:
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
    lake.delete_matching(EMBEDDING_FAILURES, embedded.select("item_id"), within=of_model)
    return totals["rows"] - totals["failed"], totals["failed"]
