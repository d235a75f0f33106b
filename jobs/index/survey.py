"""What there is to index: the active items with the vectors of their present content, counted and digested."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.index.shard import ITEM_COLUMNS

# What a row of the build says beside its vector, which content_hash and the model version determine.
_CONTENT = ("item_id", "title", "category", "price", "in_stock", "content_hash", "image_sha256")
_DIGEST_BUCKETS = 256


@dataclass(frozen=True)
class Survey:
    """What there is to index.

    Args:
        active: Active items.
        covered: Those with a vector of their present content.
        dimensions: Every length of vector that occurs.
        sha256: Digest of the covered items' content, whatever their order.
    """

    active: int
    covered: int
    dimensions: tuple[int, ...]
    sha256: str


def indexable_items(items: DataFrame, embeddings: DataFrame, *, model_version: str) -> DataFrame:
    """Every active item with `ITEM_COLUMNS`; those of the vector are null where its present content has none."""
    same_content = (F.col("i.item_id") == F.col("e.item_id")) & (F.col("i.content_hash") == F.col("e.content_hash"))
    vectors = embeddings.where(F.col("model_version") == model_version)
    from_items = [f"i.{name}" for name in ITEM_COLUMNS if name in items.columns]
    from_vectors = [f"e.{name}" for name in ITEM_COLUMNS if name not in items.columns]
    return (
        items.where("is_active")
        .alias("i")
        .join(vectors.alias("e"), on=same_content, how="left")
        .select(*from_items, *from_vectors)
    )


def survey_items(items: DataFrame, embeddings: DataFrame, *, model_version: str) -> Survey:
    """Count and digest `indexable_items` in one pass, in which no vector is moved."""
    lengths = embeddings.withColumn("embedding", F.size("embedding"))
    rows = indexable_items(items, lengths, model_version=model_version)
    digest = F.when(F.col("embedding").isNotNull(), F.sha2(F.to_json(F.struct(*_CONTENT)), 256))
    buckets = (
        rows.groupBy(F.pmod(F.xxhash64("item_id"), F.lit(_DIGEST_BUCKETS)).alias("bucket"))
        .agg(
            F.count("*").alias("active"),
            F.count("embedding").alias("covered"),
            F.collect_set("embedding").alias("dimensions"),
            F.sha2(F.concat_ws("", F.sort_array(F.collect_list(digest))), 256).alias("sha256"),
        )
        .orderBy("bucket")
        .collect()
    )
    return Survey(
        active=sum(bucket["active"] for bucket in buckets),
        covered=sum(bucket["covered"] for bucket in buckets),
        dimensions=tuple(sorted({length for bucket in buckets for length in bucket["dimensions"]})),
        sha256=json_sha256([[bucket["bucket"], bucket["sha256"]] for bucket in buckets if bucket["covered"]]),
    )


def json_sha256(content: object) -> str:
    """Digest of whatever JSON can say."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
