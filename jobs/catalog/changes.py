"""What a snapshot changes: items as they are beside the snapshot's rows, and who came, changed or went."""

import datetime as dt
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

# Columns that a snapshot says something about.
_TOLD = ("title", "category", "price", "in_stock", "image_uri", "image_etag", "image_sha256", "content_hash")

_HALF = 32  # digits of each half of a content hash

# What can become of an item, and what else is told of it.
CHANGES = ("new", "returned", "content", "details", "departed")
MARKS = ("retitled", "rephotographed", "lost_photo")


def content_hash(title: Column, image_sha256: Column) -> Column:
    """Digest of exactly what the model reads, in two halves, so that two of them tell what changed.

    `<title>.<photo>`: the first 128 bits, in hexadecimal, of each one's SHA-256; zeros without a photo.
    """
    photo = F.coalesce(F.substring(image_sha256, 1, _HALF), F.lit("0" * _HALF))
    return F.concat_ws(".", F.substring(F.sha2(title, 256), 1, _HALF), photo)


def described(accepted: DataFrame, photos: DataFrame) -> DataFrame:
    """Accepted rows with their photo's version and digest, and the digest of what the model reads.

    Args:
        accepted: item_id, title, category, price, in_stock, image_uri, photo (image_uri as the photos' source names
            it).
        photos: photo, etag, content_sha256; one row a photo.
    """
    return accepted.join(photos, on="photo", how="left").select(
        "item_id",
        "title",
        "category",
        "price",
        "in_stock",
        "image_uri",
        F.col("etag").alias("image_etag"),
        F.col("content_sha256").alias("image_sha256"),
        content_hash(F.col("title"), F.col("content_sha256")).alias("content_hash"),
    )


def departures(items: DataFrame, snapshot_ids: DataFrame) -> DataFrame:
    """Active items of which the snapshot has no row, not even a refused one."""
    return items.where("is_active").join(snapshot_ids, on="item_id", how="left_anti")


def transitions(items: DataFrame, present: DataFrame, departed: DataFrame, *, date: dt.date) -> DataFrame:
    """The rows of `items` that the snapshot changes, as they will be, and how each changes.

    Args:
        items: The table as it is.
        present: What `described` gives.
        departed: What `departures` gives.
        date: The snapshot's date.

    Returns:
        The columns of `items`; change (new, returned, content: title or photo, details: anything else, departed);
        retitled, rephotographed and lost_photo (BOOLEAN, false for new items).
    """
    is_new = F.col("i.item_id").isNull()
    differs = {name: ~F.col(f"i.{name}").eqNullSafe(F.col(f"p.{name}")) for name in _TOLD}
    change = (
        F.when(is_new, "new")
        .when(~F.col("i.is_active"), "returned")
        .when(differs["content_hash"], "content")
        .when(reduce(or_, differs.values()), "details")
    )
    arrived = present.alias("p").join(items.alias("i"), on=F.col("p.item_id") == F.col("i.item_id"), how="left")
    arrived = arrived.select(
        "p.*",
        F.lit(True).alias("is_active"),
        F.coalesce("i.first_seen", F.lit(date)).alias("first_seen"),
        F.lit(None).cast("date").alias("inactive_since"),
        F.lit(date).alias("snapshot_date"),
        change.alias("change"),
        (~is_new & differs["title"]).alias("retitled"),
        (~is_new & differs["image_sha256"]).alias("rephotographed"),
        (F.col("i.image_sha256").isNotNull() & F.col("p.image_sha256").isNull()).alias("lost_photo"),
    ).where(F.col("change").isNotNull())
    gone = departed.withColumns(
        {
            "is_active": F.lit(False),
            "inactive_since": F.lit(date),
            "snapshot_date": F.lit(date),
            "change": F.lit("departed"),
            **{mark: F.lit(False) for mark in MARKS},
        }
    )
    return arrived.unionByName(gone)
