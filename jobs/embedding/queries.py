"""Embed the head queries of the log's window, so that analysts can join without Python.

Reads:  query_events, query_embeddings, models, index_builds, job_runs
Writes: query_embeddings
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import numpy as np
import pandas as pd
from pydantic import Field
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.core.job import DatedOptions, JobRun, main
from jobs.core.lake import Lake
from jobs.core.serving import named_model
from jobs.embedding.inference import Seconds, embed_batches, open_encoder, threads_per_task
from schemas import JOB_RUNS, QUERY_EMBEDDINGS, QUERY_EVENTS


class Options(DatedOptions):
    """Embed the head queries of the log's window under the serving model."""

    model_version: str | None = Field(
        None, description="Embed under this model instead of the serving one; 'promoted': the last one promoted."
    )
    window_days: int = Field(14, ge=1, description="Days of the log, ending at the date, that make the head.")
    max_queries: int = Field(10_000, ge=1, description="Queries in the head.")


def head_queries(events: DataFrame, *, date: dt.date, window_days: int, max_queries: int) -> DataFrame:
    """The queries that were shown results most often in the window: query, impressions.  Ties by the query's text."""
    start = date - dt.timedelta(days=window_days - 1)
    shown = events.where(F.col("event_date").between(start, date)).where(F.col("event_type") == "impression")
    counted = shown.groupBy("query").agg(F.count("*").alias("impressions"))
    return counted.orderBy(F.desc("impressions"), "query").limit(max_queries)


def newest_date(lake: Lake, model_version: str, date: dt.date) -> dt.date:
    """The last date up to which the head was made under the model, this one included: an older one does not undo it."""
    runs = lake.read(JOB_RUNS).where("job = 'embedding queries' AND verdict IN ('succeeded', 'unchanged')")
    of_model = runs.where(F.get_json_object("arguments", "$.model_version") == model_version)
    (last,) = of_model.agg(F.max("logical_date")).first()
    return max(filter(None, (date, last)))


def embed_queries(batches: Iterator[pd.DataFrame], *, model_uri: str, threads: int) -> Iterator[pd.DataFrame]:
    """The task: query and impressions in, the same with the query's unit-norm vector out."""
    encoder = open_encoder(model_uri, threads)

    def prepare(batch: pd.DataFrame) -> list[np.ndarray]:
        return encoder.prepare_queries(batch["query"].tolist())

    embed = encoder.embed_prepared_queries
    for batch, vectors in embed_batches(batches, prepare=prepare, embed=embed, seconds=Seconds()):
        yield batch.assign(embedding=list(vectors))


def run(job: JobRun, options: Options) -> None:
    """Make the head's vectors exactly the model's slice of the table; only new queries meet the model."""
    lake = job.lake
    model_version = named_model(lake, options.model_version)
    job.resolve(model_version=model_version)
    of_model = F.col("model_version") == model_version
    known = lake.read(QUERY_EMBEDDINGS).where(of_model).select("query", "embedding", "run_id")
    with job.stage("find_work"):
        head = head_queries(
            lake.read(QUERY_EVENTS),
            date=newest_date(lake, model_version, options.date),
            window_days=options.window_days,
            max_queries=options.max_queries,
        ).cache()
        total = head.count()
        new = head.join(known, on="query", how="left_anti").cache()
        unknown = new.count()
    arguments = {
        "model_uri": lake.uri("models", model_version),
        "threads": threads_per_task(job.spark),
    }
    embedded = new.mapInPandas(
        lambda batches: embed_queries(batches, **arguments),
        "query string, impressions long, embedding array<float>",
    ).withColumn("run_id", F.lit(job.run_id))
    kept = head.join(known, on="query", how="inner")
    rows = kept.unionByName(embedded).withColumn("model_version", F.lit(model_version))
    with job.stage("embed"):
        written = lake.replace(QUERY_EMBEDDINGS, rows, of_model)
    job.count(rows_in=total, rows_out=unknown)
    if not written:
        job.unchanged()


if __name__ == "__main__":
    main(run, Options)
