"""Distributed inference: the one iterator that turns Arrow batches into vectors, for items and for queries.

A Python worker opens a model once and keeps it between tasks.  While the model runs batch n, a thread reads batch n + 1
and prepares it (decodes photos, tokenizes), so that neither waits for the other.
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
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

import fsspec
import numpy as np
import pandas as pd
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.core.frames import small

if TYPE_CHECKING:
    from models.encoder import Encoder, PreparedItems

# Items of a task: a batch at least, for opening the model in one more process costs a slot that would be idle nothing,
# and a large model takes minutes over a thousand items; few enough that a lost task is cheap.
_FEWEST_ITEMS = 128
_MOST_ITEMS = 20_000

Raw = TypeVar("Raw")
Prepared = TypeVar("Prepared")
Embedded = TypeVar("Embedded")


def open_encoder(model_uri: str, threads: int) -> Encoder:
    """The encoder of a model folder, opened once a process and device; on the GPU that Spark gave this task, if any.

    Args:
        model_uri: Folder as fsspec names it; fetched to this machine when remote.
        threads: CPU threads that the model may use: the task's own share of the machine.
    """
    return load_encoder(model_uri, threads, gpu_of_task())


def gpu_of_task() -> str | None:
    """The GPU that Spark gave the task, as torch names it; None outside tasks and where Spark hands out none.

    A local master hands out none, and then it is torch that looks for a GPU.
    """
    task = TaskContext.get()
    gpus = task.resources().get("gpu") if task is not None else None
    return f"cuda:{gpus.addresses[0]}" if gpus else None


@lru_cache(maxsize=2)
def load_encoder(model_uri: str, threads: int, device: str | None) -> Encoder:
    """What `open_encoder` opens; a model's version digests its content, so one that is open is never stale."""
    # Here, because torch takes seconds to import and a driver that only plans tasks does without.
    import torch

    from models.encoder import Encoder

    torch.set_num_threads(threads)
    fs, path = fsspec.core.url_to_fs(model_uri)
    if fs.protocol in ("file", ("file", "local")):
        return Encoder.from_folder(path, device, decode_threads=threads)
    with TemporaryDirectory(prefix="model-") as folder:
        fs.get(path, folder, recursive=True)
        return Encoder.from_folder(Path(folder) / Path(path).name, device, decode_threads=threads)


class Seconds:
    """Where a task's time went, by stage, since it was last taken.

    Stages overlap: reading and preparing a batch go on while the model runs the one before.  Opening the model comes
    before them, and costs nothing in a process that has it open.
    """

    STAGES = ("open", "read", "decode", "infer", "write")

    def __init__(self) -> None:
        self._spent = dict.fromkeys(self.STAGES, 0.0)

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


class Pace:
    """How fast a task goes once it is under way: all batches but the first, which pays for what comes once."""

    MEASURES = ("paced_items", "paced_seconds", "paced_cpu_seconds")

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None
        self._spent = dict.fromkeys(self.MEASURES, 0.0)

    def lap(self, items: int) -> None:
        """A batch of so many items is done."""
        now = (time.perf_counter(), time.process_time())
        if self._before is not None:
            passed = (items, now[0] - self._before[0], now[1] - self._before[1])
            for measure, value in zip(self.MEASURES, passed, strict=True):
                self._spent[measure] += value
        self._before = now

    def take(self) -> dict[str, float]:
        """Items, their wall seconds and their CPU seconds since these were last taken."""
        taken, self._spent = self._spent, dict.fromkeys(self._spent, 0.0)
        return taken


def embed_batches(
    batches: Iterable[Raw],
    *,
    prepare: Callable[[Raw], Prepared],
    embed: Callable[[Prepared], Embedded],
    seconds: Seconds,
) -> Iterator[tuple[Raw, Embedded]]:
    """Each batch with what `embed` makes of it; reading and preparing go on in a thread, a batch ahead of it."""
    waiting = iter(batches)

    def read() -> tuple[Raw, Prepared] | None:
        with seconds.measure("read"):
            batch = next(waiting, None)
        if batch is None:
            return None
        with seconds.measure("decode"):
            return batch, prepare(batch)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as thread:
        ahead = thread.submit(read)
        while (come := ahead.result()) is not None:
            ahead = thread.submit(read)
            batch, prepared = come
            with seconds.measure("infer"):
                embedded = embed(prepared)
            yield batch, embedded


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

    def prepare(batch: pd.DataFrame) -> PreparedItems:
        return encoder.prepare_items(batch["title"].tolist(), batch["photo"].tolist())

    for batch, vectors in embed_batches(batches, prepare=prepare, embed=encoder.embed_items, seconds=seconds):
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


def tasks_for(items: int, *, slots: int) -> int:
    """Into how many tasks so many items go: one a slot, fewer of few items, a multiple of the slots of very many."""
    if items > slots * _MOST_ITEMS:
        return slots * math.ceil(items / (slots * _MOST_ITEMS))
    return max(1, min(slots, math.ceil(items / _FEWEST_ITEMS)))


def with_photos(items: DataFrame, total: int, images: DataFrame) -> DataFrame:
    """Items with their title and photo bytes (null without a photo): the last join, by key, of what is needed only.

    Where few enough items are wanted their titles go to the photos, so that of all bytes in the table only those that
    are wanted are shuffled, once, to spread them evenly over the tasks.

    Args:
        items: item_id, content_hash, title, image_sha256.
        total: How many items those are.
        images: Rows of `item_images`.
    """
    partitions = tasks_for(total, slots=items.sparkSession.sparkContext.defaultParallelism)
    columns = ["item_id", "content_hash", "title", "photo"]
    keyed = items.select("item_id", "content_hash", "title", F.col("image_sha256").alias("content_sha256"))
    with_photo = images.join(small(keyed, total), on="content_sha256").withColumn("photo", F.col("content"))
    without = keyed.join(images.select("content_sha256"), on="content_sha256", how="left_anti")
    without = without.withColumn("photo", F.lit(None).cast("binary"))
    return with_photo.select(columns).unionByName(without.select(columns)).repartition(partitions)


def threads_per_task(spark: SparkSession) -> int:
    """Model threads that a task may use without taking its neighbours' cores."""
    return int(spark.conf.get("spark.task.cpus", "1"))
