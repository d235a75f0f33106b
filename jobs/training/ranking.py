"""Exact search of the active catalog under any model, from photos to ranks: what evaluation and comparison rest on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from jobs.core.job import JobRun
from jobs.embedding.inference import Seconds, embed_item_batches, open_encoder, threads_per_task, with_photos
from schemas import ITEM_IMAGES, ITEMS

# The deepest rank that a measure looks at.
DEPTH = 100


def rank_catalog(job: JobRun, model_version: str, queries: Sequence[str], *, batch_size: int) -> list[list[str]]:
    """Embed every active item and return, for each query, the ids of the `DEPTH` best, best first.

    Vectors stay in the tasks that make them: a task returns its own best items a query.

    Args:
        job: The run.
        model_version: A model of the lake.
        queries: The queries' texts.
        batch_size: Items that the model sees at once.
    """
    lake, spark = job.lake, job.spark
    model_uri = lake.path("models", model_version)
    threads = threads_per_task(spark)
    vectors = open_encoder(model_uri, threads).embed_queries(queries)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", batch_size)
    candidates = with_photos(lake.read(ITEMS).where("is_active"), lake.read(ITEM_IMAGES))
    arguments = {"model_uri": model_uri, "queries": vectors, "threads": threads}
    nearest = candidates.mapInPandas(
        lambda batches: nearest_of_partition(batches, **arguments), "query int, item_id string, score float"
    ).toPandas()
    nearest = nearest.sort_values(["query", "score", "item_id"], ascending=[True, False, True])
    by_query = nearest.groupby("query")["item_id"].apply(lambda ids: ids.head(DEPTH).tolist())
    return [by_query.get(position, []) for position in range(len(queries))]


def nearest_of_partition(
    batches: Iterator[pd.DataFrame], *, model_uri: str, queries: np.ndarray, threads: int, depth: int = DEPTH
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
