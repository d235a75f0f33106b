"""Distributed inference: the one iterator that turns Arrow batches into vectors, for items and for queries.

A Python worker opens a model once and keeps it between tasks.  While the model runs batch n, a thread prepares batch
n + 1 (decodes photos, tokenizes), so that neither waits for the other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, TypeVar

import fsspec
import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from models.encoder import Encoder

# Items of a task: enough to repay opening the model in one more process, few enough that a lost task is cheap.
_FEWEST_ITEMS = 1_000
_MOST_ITEMS = 20_000

Raw = TypeVar("Raw")
Prepared = TypeVar("Prepared")


@lru_cache(maxsize=2)
def open_encoder(model_uri: str, threads: int) -> Encoder:
    """The encoder of a model folder, opened once a process.

    Args:
        model_uri: Folder as fsspec names it; fetched to this machine when remote.
        threads: CPU threads that the model may use: the task's own share of the machine.
    """
    # Here, because torch takes seconds to import and a driver that only plans tasks does without.
    import torch

    from models.encoder import Encoder

    torch.set_num_threads(threads)
    fs, path = fsspec.core.url_to_fs(model_uri)
    if fs.protocol not in ("file", ("file", "local")):
        copy = str(Path(mkdtemp(prefix="model-")) / Path(path).name)
        fs.get(path, copy, recursive=True)
        path = copy
    return Encoder.from_folder(path)


class Seconds:
    """Where a task's time went, by stage, since it was last taken."""

    def __init__(self) -> None:
        self._spent = dict.fromkeys(("decode", "infer", "write"), 0.0)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the block's wall seconds to the stage."""
        start = time.perf_counter()
        yield
        self._spent[stage] += time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """Seconds by stage; counting starts anew."""
        taken, self._spent = self._spent, dict.fromkeys(self._spent, 0.0)
        return taken


@dataclass(frozen=True)
class ItemBatch:
    """Vectors of one batch of items, row for row.

    Args:
        rows: The batch as it came, without its photo bytes.
        embedding: (n, dim) float32, unit norm; rows of failed items are all zero.
        title_weight, image_weight, photo_effect: (n,) float32.
        image_status: (n,) ok, missing or broken.
        failure: (n,) why the row has no vector; None for rows that have one.
    """

    rows: pd.DataFrame
    embedding: np.ndarray
    title_weight: np.ndarray
    image_weight: np.ndarray
    photo_effect: np.ndarray
    image_status: list[str]
    failure: list[str | None]


def embed_item_batches(batches: Iterable[pd.DataFrame], encoder: Encoder, seconds: Seconds) -> Iterator[ItemBatch]:
    """Embed batches that have the columns title and photo (bytes, or None without one)."""

    def prepare(batch: pd.DataFrame) -> tuple[pd.DataFrame, object]:
        with seconds.measure("decode"):
            return batch, encoder.prepare_items(batch["title"].tolist(), batch["photo"].tolist())

    for batch, prepared in read_ahead(batches, prepare):
        with seconds.measure("infer"):
            vectors = encoder.embed_items(prepared)
        finite = np.isfinite(vectors.embedding).all(axis=1)
        yield ItemBatch(
            rows=batch.drop(columns="photo"),
            embedding=np.where(finite[:, None], vectors.embedding, 0.0).astype(np.float32),
            title_weight=vectors.title_weight,
            image_weight=vectors.image_weight,
            photo_effect=vectors.photo_effect,
            image_status=list(vectors.image_status),
            failure=[None if ok else "the model returned a vector that is not finite" for ok in finite],
        )


def read_ahead(batches: Iterable[Raw], prepare: Callable[[Raw], Prepared]) -> Iterator[Prepared]:
    """`map(prepare, batches)`, one batch ahead of its consumer, in a thread."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        ahead = None
        for batch in batches:
            following = thread.submit(prepare, batch)
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()


def with_photos(items: DataFrame, images: DataFrame) -> DataFrame:
    """Items with their title and photo bytes (null without a photo): the last join, by key, of what is needed only.

    Items without a photo join on their own id, which matches nothing, so that they spread over the partitions too.
    """
    total = items.count()
    slots = items.sparkSession.sparkContext.defaultParallelism
    partitions = max(1, min(slots, math.ceil(total / _FEWEST_ITEMS)), math.ceil(total / _MOST_ITEMS))
    photos = images.select(F.col("content_sha256").alias("photo_key"), F.col("content").alias("photo"))
    keyed = items.select("item_id", "content_hash", "title", F.coalesce("image_sha256", "item_id").alias("photo_key"))
    return (
        keyed.repartition(partitions, "photo_key")
        .join(photos, on="photo_key", how="left")
        .select("item_id", "content_hash", "title", "photo")
    )


def threads_per_task(spark: SparkSession) -> int:
    """Model threads that a task may use without taking its neighbours' cores."""
    return int(spark.conf.get("spark.task.cpus", "1"))
