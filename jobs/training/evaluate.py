"""Measure a model on judged queries over the full catalog.

Reads:  models, items, item_images, training_sets; judged queries and judgments where they are configured
Writes: models (metrics)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from pydantic import Field
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.core.job import JobError, JobRun, main
from jobs.core.judgments import JudgedOptions, read_judged_queries
from jobs.core.lake import Lake
from jobs.core.serving import find_model
from jobs.embedding.inference import Seconds, embed_item_batches, open_encoder, threads_per_task, with_photos
from models.retrieval_metrics import ndcg_at_k, recall_at_k, reciprocal_rank
from schemas import ITEM_IMAGES, ITEMS, MODELS, TRAINING_SETS

# The deepest rank that a measure looks at.
_DEPTH = 100


class Options(JudgedOptions):
    """Measure a model on judged queries over the full catalog; without any, on the training set's held-out queries."""

    model_version: str | None = Field(None, description="The model; default: the one trained last.")
    batch_size: int = Field(128, ge=1, le=1024, description="Items that the model sees at once.")


def held_out(spark: SparkSession, lake: Lake, training_set_id: str) -> DataFrame:
    """The validation split's queries in the same form, for lakes without judgments."""
    training_set = lake.read(TRAINING_SETS).where(F.col("training_set_id") == training_set_id).first()
    if training_set is None:
        raise JobError(f"training set {training_set_id} is not in training_sets: run `training build-set` again")
    rows = spark.read.parquet(lake.uri(training_set["uri"], "validation_queries"))
    return rows.groupBy("query").agg(F.collect_set("item_id").alias("relevant")).withColumn("query_id", F.col("query"))


def nearest_of_partition(
    batches: Iterator[pd.DataFrame], *, model_uri: str, queries: np.ndarray, depth: int, threads: int
) -> Iterator[pd.DataFrame]:
    """The task: embed the partition's items and keep, for each query, the `depth` best of them.

    Args:
        queries: (queries, dim) float32 unit-norm vectors.

    Yields:
        query (position in `queries`), item_id, score.
    """
    scores = np.zeros((len(queries), 0), np.float32)
    items = np.zeros((len(queries), 0), object)
    for batch in embed_item_batches(batches, open_encoder(model_uri, threads), Seconds()):
        embedded = np.array([reason is None for reason in batch.failure])
        ids = batch.rows["item_id"].to_numpy()[embedded]
        scores = np.hstack([scores, queries @ batch.embedding[embedded].T])
        items = np.hstack([items, np.broadcast_to(ids, (len(queries), len(ids)))])
        if scores.shape[1] > depth:
            best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
            scores, items = np.take_along_axis(scores, best, axis=1), np.take_along_axis(items, best, axis=1)
    position = np.repeat(np.arange(len(queries)), scores.shape[1])
    yield pd.DataFrame({"query": position, "item_id": items.reshape(-1), "score": scores.reshape(-1)})


def measures(ranked: list[list[str]], relevant: list[set[str]]) -> dict[str, float]:
    """Every figure of an evaluation, by name, from ranked item ids and the relevant ones, query by query."""
    by_query = {
        **{f"recall_at_{k}": recall_at_k(ranked, relevant, k) for k in (1, 10, 100)},
        "ndcg_at_10": ndcg_at_k(ranked, relevant, 10),
        "mrr": reciprocal_rank(ranked, relevant),
    }
    return {name: float(values.mean()) for name, values in by_query.items()}


def run(job: JobRun, options: Options) -> None:
    """Embed the catalog under the model, rank it for every judged query, write the figures beside the model."""
    lake, spark = job.lake, job.spark
    model = find_model(lake, options.model_version)
    version = model["model_version"]
    if options.judged_queries:
        queries = read_judged_queries(spark, options)
    else:
        queries = held_out(spark, lake, model["training_set_id"])
    rows = queries.orderBy("query_id").collect()
    if not rows:
        raise JobError("no judged query has a relevant item: nothing can be measured")
    model_uri = lake.path("models", version)
    threads = threads_per_task(spark)
    vectors = open_encoder(model_uri, threads).embed_queries([row["query"] for row in rows])
    active = lake.read(ITEMS).where("is_active")
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", options.batch_size)
    with job.stage("embed_and_rank"):
        candidates = with_photos(active, lake.read(ITEM_IMAGES))
        arguments = {"model_uri": model_uri, "queries": vectors, "depth": _DEPTH, "threads": threads}
        nearest = candidates.mapInPandas(
            lambda batches: nearest_of_partition(batches, **arguments), "query int, item_id string, score float"
        ).toPandas()
    nearest = nearest.sort_values(["query", "score", "item_id"], ascending=[True, False, True])
    by_query = nearest.groupby("query")["item_id"].apply(lambda ids: ids.head(_DEPTH).tolist())
    ranked = [by_query.get(position, []) for position in range(len(rows))]
    figures = measures(ranked, [set(row["relevant"]) for row in rows]) | {"judged_queries": float(len(rows))}
    for name, value in figures.items():
        job.figure(name, value)
    measured = (
        lake.read(MODELS)
        .where(F.col("model_version") == version)
        .withColumn("metrics", F.map_concat("metrics", F.create_map(*_literals(figures))))
    )
    changed = lake.merge(MODELS, measured).changed
    job.count(rows_in=len(rows), rows_out=len(rows))
    job.note(f"{version}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    if not changed:
        job.unchanged()


def _literals(figures: dict[str, float]) -> list:
    return [F.lit(part) for pair in figures.items() for part in pair]


if __name__ == "__main__":
    main(run, Options)
