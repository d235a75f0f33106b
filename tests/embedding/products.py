"""Catalogs of a few products, put into a lake as an ingest would leave them."""

import datetime as dt
import hashlib

from pyspark.sql import functions as F

from jobs.catalog.changes import content_hash
from schemas import ITEM_EMBEDDINGS, ITEM_IMAGES, ITEMS

DAY = dt.date(2026, 11, 1)
NEXT_DAY = dt.date(2026, 11, 2)


def put_items(lake, spark, *products: tuple[str, str, bytes | None], active: bool = True, price: float = 1.0) -> None:
    """Insert or update items (item_id, title, photo) and the photos they show."""
    rows, photos = [], {}
    for item_id, title, photo in products:
        digest = hashlib.sha256(photo).hexdigest() if photo is not None else None
        if photo is not None:
            photos[digest] = photo
        gone = None if active else DAY
        rows.append((item_id, title, "c", price, None, digest, digest, digest, "", active, DAY, gone, DAY))
    items = spark.createDataFrame(rows, ITEMS.schema)
    lake.merge(ITEMS, items.withColumn("content_hash", content_hash(F.col("title"), F.col("image_sha256"))))
    images = [(digest, content, len(content), 1, 1, "JPEG", True, None) for digest, content in photos.items()]
    lake.merge(ITEM_IMAGES, spark.createDataFrame(images, ITEM_IMAGES.schema), insert_only=True)


def vectors(lake) -> dict[str, tuple]:
    """Rows of item_embeddings by item_id."""
    return {row["item_id"]: row for row in lake.read(ITEM_EMBEDDINGS).collect()}
