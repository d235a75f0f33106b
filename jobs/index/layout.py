"""Which shard an item lies in, and writing all of them: each as its sorted rows stream by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from typing import NamedTuple

import faiss
import numpy as np
import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.index.manifest import ShardEntry
from jobs.index.shard import ITEM_COLUMNS, ShardWriter

_WRITTEN = pa.schema(
    [
        ("number", pa.int64()),
        ("rows", pa.int64()),
        ("file", pa.string()),
        ("sha256", pa.string()),
        ("items_file", pa.string()),
        ("items_sha256", pa.string()),
        ("partition", pa.string()),
        ("list_sizes", pa.list_(pa.int64())),
    ]
)
# Keys that are tried a shard until each has one that Spark sends to a partition of its own.
_KEYS_TRIED = 32


class Part(NamedTuple):
    """A part of the catalog that has shards of its own.

    Attributes:
        value: What its items have in the column that the build is partitioned by; None: nothing.
        vectors: How many they are.
    """

    value: str | None
    vectors: int


@dataclass(frozen=True)
class Layout:
    """How a build's items are dealt to shards: part by part, and within a part by a hash of their id.

    Args:
        column: What the build is partitioned by; None: all items are one part.
        parts: The parts, in order.
        shards: How many shards each has.
    """

    column: str | None
    parts: tuple[Part, ...]
    shards: tuple[int, ...]

    @property
    def count(self) -> int:
        """Shards of all parts together."""
        return sum(self.shards)

    def with_shard(self, rows: DataFrame) -> DataFrame:
        """`rows` with the column `shard`, the same for an item on every night while the layout is the same."""
        place = F.pmod(F.xxhash64("item_id"), F.col("shards")).cast("int")
        if self.column is None:
            return rows.withColumn("shards", F.lit(self.count)).withColumn("shard", place).drop("shards")
        firsts = np.cumsum([0, *self.shards])[:-1].tolist()
        described = [
            (part.value, first, shards) for part, first, shards in zip(self.parts, firsts, self.shards, strict=True)
        ]
        parts = rows.sparkSession.createDataFrame(described, "part string, first int, shards int")
        of_part = F.col(self.column).eqNullSafe(F.col("part"))
        in_part = rows.join(F.broadcast(parts), on=of_part, how="inner")
        return in_part.withColumn("shard", F.col("first") + place).drop("part", "first", "shards")

    def value_of(self, number: int) -> str | None:
        """The value of the part that a shard belongs to."""
        return self.parts[int(np.searchsorted(np.cumsum(self.shards), number, side="right"))].value


def parts_of(rows: DataFrame, column: str | None, vectors: int) -> tuple[Part, ...]:
    """The parts that a column cuts the rows into; one part, of so many vectors, without a column."""
    if column is None:
        return (Part(None, vectors),)
    counts = rows.groupBy(column).count().orderBy(F.col(column).asc_nulls_first()).collect()
    return tuple(Part(row[column], row["count"]) for row in counts)


def write_shards(
    rows: DataFrame, *, folder: str, layout: Layout, trained: Broadcast
) -> tuple[Sequence[ShardEntry], np.ndarray]:
    """Write every shard that has items, each as its sorted rows stream by.

    Args:
        rows: `ITEM_COLUMNS`, with a vector each.
        folder: The build's folder.
        layout: Which shard a row goes to.
        trained: The empty trained index.

    Returns:
        The shards in order, and (lists,) the vectors in each inverted list of all of them together.
    """

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        faiss.omp_set_num_threads(1)  # tasks run side by side already
        for number, parts in groupby(_split_by_shard(batches), key=itemgetter(0)):
            with ShardWriter(folder, number, layout.count, trained.value, partition=layout.value_of(number)) as writer:
                for _, part in parts:
                    writer.add(part)
                entry = writer.finish()
                sizes = writer.list_sizes
            yield pa.RecordBatch.from_pylist([{**entry.model_dump(), "list_sizes": sizes.tolist()}], _WRITTEN)

    keys = F.array(*(F.lit(key) for key in partition_keys(rows.sparkSession, layout.count)))
    written = (
        layout.with_shard(rows.select(*ITEM_COLUMNS))
        .repartition(layout.count, keys[F.col("shard")])
        .sortWithinPartitions("shard", "item_id")
        .mapInArrow(write, from_arrow_schema(_WRITTEN))
        .collect()
    )
    written.sort(key=itemgetter("number"))
    entries = [ShardEntry(**{name: row[name] for name in ShardEntry.model_fields}) for row in written]
    return entries, np.sum([row["list_sizes"] for row in written], axis=0)


def partition_keys(spark: SparkSession, shards: int) -> list[int]:
    """A key for each shard, so that Spark, which hashes keys, sends every shard to a task of its own.

    By their numbers, a third of the tasks would have no shard and others three.  Shards that found no key of their own
    share a task and stream through it in turn.
    """
    # Of the type that the keys will have, for Spark hashes other types to other numbers.
    sent_to = F.pmod(F.hash(F.col("id").cast("int")), F.lit(shards)).alias("partition")
    tried = spark.range(0, _KEYS_TRIED * shards, numPartitions=1).select(sent_to, "id").collect()
    key_of = {row["partition"]: row["id"] for row in reversed(tried)}
    return [key_of.get(shard, shard) for shard in range(shards)]


def _split_by_shard(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Rows sorted by shard as runs of one shard each; a shard's runs follow each other."""
    for batch in batches:
        numbers = batch.column("shard").to_numpy()
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1), len(numbers)]
        for start, end in pairwise(edges):
            if start < end:
                yield int(numbers[start]), batch.slice(start, end - start)
