"""Exact search of the active catalog under any model, from photos to ranks: what evaluation and comparison rest on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.core.job import JobError, JobRun
from jobs.embedding.inference import Seconds, embed_item_batches, open_encoder, threads_per_task, with_photos
from schemas import ITEM_IMAGES, ITEMS

# The deepest rank that a measure looks at.
DEPTH = 100
_EMBEDDED = "item_id string, embedding array<float>, image_weight float, photo_effect float, image_status string"


class EmbeddedCatalog:
    """The active items' vectors under one model; they stay on the disks of the workers that made them.

    Args:
        items: item_id, embedding, image_weight, photo_effect, image_status; an item a row.
        model_uri: The model's folder.
        threads: CPU threads that the model may use.
    """

    def __init__(self, items: DataFrame, *, model_uri: str, threads: int) -> None:
        self.items = items
        self._encoder = (model_uri, threads)

    def rank(self, queries: Sequence[str]) -> list[list[str]]:
        """For each query the ids of the `DEPTH` best items, best first."""
        vectors = open_encoder(*self._encoder).embed_queries(queries)
        nearest = self.items.select("item_id", "embedding").mapInPandas(
            lambda batches: nearest_of_partition(batches, queries=vectors), "query int, item_id string, score float"
        )
        nearest = nearest.toPandas().sort_values(["query", "score", "item_id"], ascending=[True, False, True])
        by_query = nearest.groupby("query")["item_id"].apply(lambda ids: ids.head(DEPTH).tolist())
        return [by_query.get(position, []) for position in range(len(queries))]

    def moments(self) -> tuple[int, np.ndarray]:
        """How many vectors there are, and the (dim, dim) sum of x x^T over them.

        Raises:
            JobError: There is none.
        """
        of_partitions = self.items.select("embedding").mapInPandas(
            moment_of_partition, "items long, moment array<double>"
        )
        parts = of_partitions.collect()
        if not parts:
            raise JobError("no active item has a vector under this model: nothing can be found")
        moment = np.sum([part["moment"] for part in parts], axis=0)
        side = int(np.sqrt(len(moment)))
        return sum(part["items"] for part in parts), moment.reshape(side, side)


@contextmanager
def embed_catalog(job: JobRun, model_version: str, *, batch_size: int) -> Iterator[EmbeddedCatalog]:
    """Embed every active item, once, however many questions are asked; the vectors are gone when the block ends.

    Args:
        job: The run.
        model_version: A model of the lake.
        batch_size: Items that the model sees at once.
    """
    lake, spark = job.lake, job.spark
    encoder = {"model_uri": lake.uri("models", model_version), "threads": threads_per_task(spark)}
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", batch_size)
    active = lake.read(ITEMS).where("is_active")
    candidates = with_photos(active, active.count(), lake.read(ITEM_IMAGES))
    items = candidates.mapInPandas(lambda batches: embed_partition(batches, **encoder), _EMBEDDED)
    items = items.persist(StorageLevel.DISK_ONLY)
    try:
        yield EmbeddedCatalog(items, **encoder)
    finally:
        items.unpersist()


def embed_partition(batches: Iterator[pd.DataFrame], *, model_uri: str, threads: int) -> Iterator[pd.DataFrame]:
    """The task that embeds; items without a vector are left out."""
    for batch in embed_item_batches(batches, open_encoder(model_uri, threads), Seconds()):
        embedded = np.array([reason is None for reason in batch.failure])
        rows = pd.DataFrame(
            {
                "item_id": batch.rows["item_id"].to_numpy(),
                "embedding": list(batch.embedding),
                "image_weight": batch.image_weight,
                "photo_effect": batch.photo_effect,
                "image_status": batch.image_status,
            }
        )
        yield rows[embedded]


def nearest_of_partition(
    batches: Iterator[pd.DataFrame], *, queries: np.ndarray, depth: int = DEPTH
) -> Iterator[pd.DataFrame]:
    """The task that searches: for each query the `depth` best of the partition's items.

    Args:
        batches: item_id, embedding.
        queries: (queries, dim) float32 unit-norm vectors.

    Yields:
        query (position in `queries`), item_id, score.
    """
    scores = np.zeros((len(queries), 0), np.float32)
    items = np.zeros((len(queries), 0), object)
    for batch in batches:
        ids = batch["item_id"].to_numpy()
        scores = np.hstack([scores, queries @ np.stack(batch["embedding"]).T])
        items = np.hstack([items, np.broadcast_to(ids, (len(queries), len(ids)))])
        if scores.shape[1] > depth:
            best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
            scores, items = np.take_along_axis(scores, best, axis=1), np.take_along_axis(items, best, axis=1)
    position = np.repeat(np.arange(len(queries)), scores.shape[1])
    yield pd.DataFrame({"query": position, "item_id": items.reshape(-1), "score": scores.reshape(-1)})


def moment_of_partition(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The task that counts the partition's vectors and sums x x^T over them, in float64; nothing without any."""
    count, moment = 0, 0.0
    for batch in batches:
        vectors = np.stack(batch["embedding"]).astype(np.float64)
        count += len(vectors)
        moment += vectors.T @ vectors
    if count:
        yield pd.DataFrame({"items": [count], "moment": [moment.reshape(-1)]})


def sample_of(items: DataFrame, *, count: int, of: int) -> DataFrame:
    """About `count` of the `of` items, the same every time: those whose id's hash falls low."""
    share = int(1_000_000 * min(1.0, count / of))
    return items.where(F.pmod(F.xxhash64("item_id"), F.lit(1_000_000)) < share)
