"""From items to rows of `item_embeddings`: embedded by tasks, staged in chunks, merged as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
from pydantic import Field, model_validator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.core.frames import persisted
from jobs.core.job import DatedOptions, JobError, JobRun
from jobs.core.lease import Lease
from jobs.embedding.inference import (
    ItemBatch,
    Pace,
    Seconds,
    embed_item_batches,
    open_encoder,
    threads_per_task,
    with_photos,
)
from jobs.embedding.staging import (
    STAGED_KEY,
    Staged,
    read_staged,
    remove_staged,
    remove_staged_failures,
    staged_rows,
    staging_parts,
    write_chunk,
)
from schemas import EMBEDDING_FAILURES, ITEM_EMBEDDINGS, ITEM_IMAGES

_IMAGE_STATUSES = ("ok", "missing", "broken")
# What a chunk's report counts, as the run's record names it.
_COUNTED = tuple(f"image_{status}" for status in _IMAGE_STATUSES)
_MEASURED = (*Seconds.STAGES, *Pace.MEASURES, *_COUNTED)


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


@dataclass(frozen=True)
class Outcome:
    """What became of the items that a run embedded.

    Attributes:
        embedded: Items that have a vector of their present content now.
        added: Those of them that had none of the model before.
        failed: Items that have a failure instead.
    """

    embedded: int = 0
    added: int = 0
    failed: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.embedded + other.embedded, self.added + other.added, self.failed + other.failed)


def embed_rows(
    job: JobRun,
    options: EmbeddingOptions,
    rows: DataFrame,
    total: int,
    *,
    model_version: str,
    known_failures: int,
    lease: Lease,
) -> Outcome:
    """Give items the model's vectors, or failures that say why not.

    Args:
        job: The run.
        options: Its options.
        rows: item_id, content_hash, title, image_sha256; the same whenever it is computed.
        total: How many rows those are.
        model_version: A model of the lake.
        known_failures: How many failures the model has, for these items may recover from some.
        lease: Held on the model's vectors.

    Raises:
        JobError: Too many failed, or the lease was lost; nothing was merged.
    """
    lake = job.lake
    remove_staged_failures(lake, model_version)
    with _not_staged(job, rows, total, model_version) as (unstaged, left):
        if left < total:
            job.note(f"{total - left:,} of {total:,} vectors were found staged by an earlier run")
        if left:
            _embed_into_staging(job, options, unstaged, left, model_version)
    lease.check()
    with job.stage("merge"):
        outcome = _merge(job, options, rows, total, model_version, known_failures)
        remove_staged(lake, model_version)
    return outcome


@contextmanager
def _not_staged(job: JobRun, rows: DataFrame, total: int, model_version: str) -> Iterator[tuple[DataFrame, int]]:
    """The rows of which no vector is staged, and how many those are."""
    if staged_rows(job.lake, model_version) == 0:
        yield rows, total
        return
    staged = read_staged(job.spark, job.lake, model_version, Staged.VECTORS).select(STAGED_KEY)
    with persisted(rows.join(staged, on=STAGED_KEY, how="left_anti")) as unstaged:
        yield unstaged, unstaged.count()


def _embed_into_staging(
    job: JobRun, options: EmbeddingOptions, rows: DataFrame, total: int, model_version: str
) -> None:
    spark, lake = job.spark, job.lake
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", options.batch_size)
    before = staged_rows(lake, model_version)
    arguments = {
        "model_uri": lake.uri("models", model_version),
        "folder": lake.uri(*staging_parts(model_version)),
        "chunk_size": options.chunk_size,
        "threads": threads_per_task(spark),
    }
    reports = with_photos(rows, total, lake.read(ITEM_IMAGES)).mapInPandas(
        lambda batches: stage_vectors(batches, **arguments), ", ".join(f"{name} double" for name in _MEASURED)
    )
    totals = reports.agg(*(F.sum(name).alias(name) for name in _MEASURED))
    with job.stage("embed"), job.progress(job.name, total, lambda: staged_rows(lake, model_version) - before):
        spent = totals.first()
    for stage in Seconds.STAGES:
        job.add_seconds(stage, spent[stage])
    for measure in (*Pace.MEASURES, *_COUNTED):
        job.add_figure(measure, spent[measure])
    job.figure("slots", spark.sparkContext.defaultParallelism)


def stage_vectors(
    batches: Iterator[pd.DataFrame], *, model_uri: str, folder: str, chunk_size: int, threads: int
) -> Iterator[pd.DataFrame]:
    """The task: embed the partition's batches and stage them chunk by chunk.

    Yields:
        One row a chunk: the seconds spent by stage, the pace, and how many items had which image status.
    """
    seconds, pace = Seconds(), Pace()

    def stage(chunk: list[ItemBatch]) -> pd.DataFrame:
        with seconds.measure("write"):
            write_chunk(folder, chunk)
        statuses = Counter(status for batch in chunk for status in batch.image_status)
        counted = {name: statuses[status] for name, status in zip(_COUNTED, _IMAGE_STATUSES, strict=True)}
        return pd.DataFrame([{**seconds.take(), **pace.take(), **counted}]).astype(float)

    with seconds.measure("open"):
        encoder = open_encoder(model_uri, threads)
    chunk, rows = [], 0
    for batch in embed_item_batches(batches, encoder, seconds):
        pace.lap(len(batch.rows))
        chunk.append(batch)
        rows += len(batch.rows)
        if rows >= chunk_size:
            yield stage(chunk)
            chunk, rows = [], 0
    if chunk:
        yield stage(chunk)


def _merge(
    job: JobRun, options: EmbeddingOptions, rows: DataFrame, total: int, model_version: str, known_failures: int
) -> Outcome:
    """Bring staged vectors and failures of these rows into their tables."""
    lake, of_model, key = job.lake, {"model_version": model_version}, rows.select(STAGED_KEY)
    vectors = read_staged(job.spark, lake, model_version, Staged.VECTORS).join(key, on=STAGED_KEY, how="left_semi")
    any_failed = staged_rows(lake, model_version, Staged.FAILURES) > 0
    failures = _failures(job, options, vectors, key, model_version) if any_failed else None
    failed = failures.count() if failures is not None else 0
    if failed > options.max_failed_share * total:
        first = failures.orderBy("item_id").first()
        raise JobError(
            f"{failed:,} of {total:,} items cannot be embedded by {model_version} (first: {first['item_id']}, "
            f"{first['reason']}); at most {options.max_failed_share:.1%} may. Nothing was merged. "
            "Look at the model and the photos, or raise --max-failed-share."
        )
    embedded = vectors.withColumns({"model_version": F.lit(model_version), "run_id": F.lit(job.run_id)})
    merged = lake.merge(ITEM_EMBEDDINGS, embedded, within=of_model)
    if failed:
        lake.merge(EMBEDDING_FAILURES, failures, within=of_model)
    if known_failures:
        lake.delete_matching(EMBEDDING_FAILURES, vectors.select("item_id"), within=of_model)
    return Outcome(embedded=merged.changed, added=merged.inserted, failed=failed)


def _failures(
    job: JobRun, options: EmbeddingOptions, vectors: DataFrame, key: DataFrame, model_version: str
) -> DataFrame:
    """Rows of `embedding_failures` for what was staged as failed, and not as a vector too."""
    staged = read_staged(job.spark, job.lake, model_version, Staged.FAILURES).join(key, on=STAGED_KEY, how="left_semi")
    known = job.lake.read(EMBEDDING_FAILURES, job.lake.version(EMBEDDING_FAILURES))
    known = known.where(F.col("model_version") == model_version).select(*STAGED_KEY, "attempts")
    return (
        staged.join(vectors, on=STAGED_KEY, how="left_anti")
        .join(known, on=STAGED_KEY, how="left")
        .select(
            *STAGED_KEY,
            F.lit(model_version).alias("model_version"),
            "reason",
            (F.coalesce("attempts", F.lit(0)) + 1).alias("attempts"),
            F.lit(options.date).alias("last_attempt"),
        )
    )
