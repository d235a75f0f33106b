"""From pairs to training rows: pure transforms, with the photos joined last."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.training.row_groups import FILE
from jobs.training.splits import TRAIN, VALIDATION_ITEMS

# The split of rows that no split takes: train would show their product, and a validation split holds it out.
WITHHELD = "withheld"

# Queries of a row of train; a product with more has several rows.
QUERIES_PER_ROW = 8
# Items that a row lists as relevant to a query or to similar ones, the heaviest; bounds the rows of head queries.
MAX_LISTED_ITEMS = 1_000
# Similar queries whose clicks a row lists, and those of which it carries one: the nearest.
LISTED_NEIGHBORS = 20
DRAWN_NEIGHBORS = 5
# Row groups of a full file.
ROW_GROUPS_PER_FILE = 32

_LISTS = ("clicked_items", "neighbor_items")
# Row numbers are counted in so many parts at once.
_PARTS = 64

# What the files of train hold, in this order: a product a row.
PRODUCT_COLUMNS = (
    "item_id",
    "title",
    "photo",
    "item_key",
    "title_key",
    "photo_key",
    "queries",
    "similar_queries",
    "clicked_items",
    "clicked_counts",
    "neighbor_items",
    "neighbor_counts",
)
# What the files of the validation splits hold: a (query, item) a row.
PAIR_COLUMNS = ("query", "item_id", "title", "weight", "item_key", "title_key", "clicked_items")


def clicked_pairs(pairs: DataFrame, items: DataFrame, *, min_clicks: int) -> DataFrame:
    """The pairs that teach, with their product.

    Args:
        pairs: Rows of query_item_pairs.
        items: Rows of items; inactive ones teach too.
        min_clicks: Least clicks; a purchase is enough without.

    Returns:
        query, item_id, title, image_sha256, weight FLOAT, and the 64-bit keys query_key, item_key, title_key.
    """
    enough = (F.col("weight") > 0) & ((F.col("clicks") >= min_clicks) | (F.col("purchases") > 0))
    return (
        pairs.where(enough)
        .join(items.select("item_id", "title", "image_sha256"), on="item_id", how="inner")
        .select(
            "query",
            "item_id",
            "title",
            "image_sha256",
            F.col("weight").cast("float").alias("weight"),
            F.xxhash64("query").alias("query_key"),
            F.xxhash64("item_id").alias("item_key"),
            F.xxhash64("title").alias("title_key"),
        )
    )


def assign_splits(rows: DataFrame, held_out: DataFrame) -> DataFrame:
    """Give every row its split.

    Args:
        rows: As `clicked_pairs` gives them.
        held_out: query, split; queries that are absent train.

    Returns:
        `rows` with `split`: train, a validation split, or withheld for a row of a training query whose product
        (by title) validation_items holds out.
    """
    by_query = rows.join(held_out, on="query", how="left").withColumn("split", F.coalesce("split", F.lit(TRAIN)))
    held_titles = by_query.where(F.col("split") == VALIDATION_ITEMS).select("title_key", F.lit(True).alias("is_held"))
    is_shown = (F.col("split") == TRAIN) & F.col("is_held").isNotNull()
    return (
        by_query.join(held_titles.distinct(), on="title_key", how="left")
        .withColumn("split", F.when(is_shown, F.lit(WITHHELD)).otherwise(F.col("split")))
        .drop("is_held")
    )


def product_rows(pairs: DataFrame, lists: DataFrame) -> DataFrame:
    """Training pairs gathered by product, so that a photo is stored, decoded and encoded once for all its queries.

    Args:
        pairs: Rows of train with their `similar_query`.
        lists: As `listed_items` gives them; every query is there.

    Returns:
        item_id, title, image_sha256, item_key, title_key; queries and similar_queries, ARRAY<STRING> of equal length,
        the heaviest first, at most QUERIES_PER_ROW; clicked_items, ARRAY<BIGINT>, the lists of all the queries one
        after the other, and clicked_counts, ARRAY<INT>, how long each is; neighbor_items and neighbor_counts likewise.
    """
    product = ("item_id", "title", "image_sha256", "item_key", "title_key")
    heaviest = Window.partitionBy("item_id").orderBy(F.desc("weight"), "query")
    numbered = pairs.join(lists, on="query", how="inner").withColumn("number", F.row_number().over(heaviest) - 1)
    in_order = F.sort_array(F.collect_list(F.struct("number", "query", "similar_query", *_LISTS))).alias("asked")
    gathered = numbered.groupBy(*product, F.floor(F.col("number") / QUERIES_PER_ROW)).agg(in_order)
    return gathered.select(
        *product,
        F.col("asked.query").alias("queries"),
        F.col("asked.similar_query").alias("similar_queries"),
        *(column for name in _LISTS for column in _ragged(name)),
    )


def _ragged(name: str) -> tuple[Column, Column]:
    """The lists of a row's queries as one array, and how long each is."""
    lists = F.col(f"asked.{name}")
    counts = F.transform(lists, lambda items: F.size(items))
    return F.flatten(lists).alias(name), counts.alias(name.replace("_items", "_counts"))


def silent_products(items: DataFrame, rows: DataFrame) -> DataFrame:
    """The active items that no training pair leads to, so that the model meets what the log never showed.

    Args:
        items: Rows of items.
        rows: Rows with their split; products (by title) that validation_items holds out are left out here too.

    Returns:
        Rows as `product_rows` gives them, without queries.
    """
    held_out = rows.where(F.col("split") == VALIDATION_ITEMS).select("title_key").distinct()
    trained = rows.where(F.col("split") == TRAIN).select("item_id").distinct()
    no_texts, no_items, no_counts = (F.array().cast(f"array<{kind}>") for kind in ("string", "bigint", "int"))
    return (
        items.where("is_active")
        .join(trained, on="item_id", how="left_anti")
        .select(
            "item_id",
            "title",
            "image_sha256",
            F.xxhash64("item_id").alias("item_key"),
            F.xxhash64("title").alias("title_key"),
            no_texts.alias("queries"),
            no_texts.alias("similar_queries"),
            no_items.alias("clicked_items"),
            no_counts.alias("clicked_counts"),
            no_items.alias("neighbor_items"),
            no_counts.alias("neighbor_counts"),
        )
        .join(held_out, on="title_key", how="left_anti")
    )


def neighbors_in_train(similar: DataFrame, rows: DataFrame) -> DataFrame:
    """The nearest similar queries that train, so that no held-out query reaches the training rows.

    Args:
        similar: Rows of similar_queries.
        rows: Rows with their split.

    Returns:
        query, similar_query, rank from 1, at most LISTED_NEIGHBORS a query.
    """
    training = rows.where(F.col("split") == TRAIN).select(F.col("query").alias("similar_query")).distinct()
    evidence = F.col("similarity") * F.col("shared_items") / (F.col("shared_items") + 1)
    nearest = Window.partitionBy("query").orderBy(F.desc(evidence), "similar_query")
    return (
        similar.join(training, on="similar_query", how="left_semi")
        .withColumn("rank", F.row_number().over(nearest))
        .where(F.col("rank") <= LISTED_NEIGHBORS)
        .select("query", "similar_query", "rank")
    )


def with_similar_query(rows: DataFrame, neighbors: DataFrame, *, seed: int) -> DataFrame:
    """Add `similar_query`, one of the query's nearest by a hash of the row, or "" when it has none."""
    nearest = (
        neighbors.where(F.col("rank") <= DRAWN_NEIGHBORS)
        .groupBy("query")
        .agg(F.sort_array(F.collect_list("similar_query")).alias("nearest"))
    )
    choices = F.coalesce("nearest", F.array(F.lit("")))
    place = F.pmod(F.xxhash64(F.lit(seed), "query", "item_id"), F.size(choices)) + 1
    return (
        rows.join(nearest, on="query", how="left")
        .withColumn("similar_query", F.element_at(choices, place.cast("int")))
        .drop("nearest")
    )


def listed_items(pairs: DataFrame, neighbors: DataFrame) -> DataFrame:
    """What the log says is relevant to a query, so that no loss takes it for a negative.

    Returns:
        query; clicked_items, the item_keys that it clicked; neighbor_items, those that its similar queries clicked;
        each at most MAX_LISTED_ITEMS, the heaviest (of the nearest query first), in order of key.
    """
    heaviest = Window.partitionBy("query").orderBy(F.desc("weight"), "item_id")
    clicked = (
        pairs.where(F.col("weight") > 0)
        .select("query", "item_id", F.row_number().over(heaviest).alias("rank"))
        .where(F.col("rank") <= MAX_LISTED_ITEMS)
        .select("query", F.xxhash64("item_id").alias("item_key"), F.col("rank").alias("item_rank"))
    )
    of_neighbors = (
        neighbors.alias("n")
        .join(clicked.alias("c"), on=F.col("n.similar_query") == F.col("c.query"), how="inner")
        .groupBy("n.query", "c.item_key")
        .agg(F.min(F.struct("n.rank", "c.item_rank")).alias("best"))
    )
    nearest = Window.partitionBy("query").orderBy("best", "item_key")
    neighbor_lists = (
        of_neighbors.withColumn("place", F.row_number().over(nearest))
        .where(F.col("place") <= MAX_LISTED_ITEMS)
        .groupBy("query")
        .agg(F.sort_array(F.collect_list("item_key")).alias("neighbor_items"))
    )
    click_lists = clicked.groupBy("query").agg(F.sort_array(F.collect_list("item_key")).alias("clicked_items"))
    return click_lists.join(neighbor_lists, on="query", how="left").withColumn(
        "neighbor_items", F.coalesce("neighbor_items", F.array().cast("array<bigint>"))
    )


def name_files(rows: DataFrame, *, identity: Sequence[str], seed: int, row_group_size: int) -> DataFrame:
    """Shuffle the rows of each split, and say which file each goes to and at which place.

    Every file is full, but the last of its split.  No part of this looks at more than a 64th of a split at once.

    Args:
        rows: split, and whatever else.
        identity: Columns in which no two rows of a split are alike.
        seed: Another seed, another order.
        row_group_size: Rows of a row group.

    Returns:
        `rows` with `file`, as `train/part-00000.parquet`, and `place` BIGINT, from 0, among the rows of the split.
    """
    shuffled = rows.withColumn("hash", F.xxhash64(F.lit(seed), *identity))
    shuffled = shuffled.withColumn("part", F.pmod("hash", F.lit(_PARTS)))
    before = Window.partitionBy("split").orderBy("part").rowsBetween(Window.unboundedPreceding, -1)
    offsets = (
        shuffled.groupBy("split", "part")
        .count()
        .select("split", "part", F.coalesce(F.sum("count").over(before), F.lit(0)).alias("offset"))
    )
    in_part = Window.partitionBy("split", "part").orderBy("hash", *identity)
    number = (F.col("place") / (row_group_size * ROW_GROUPS_PER_FILE)).cast("int")
    return (
        shuffled.join(F.broadcast(offsets), on=["split", "part"], how="inner")
        .withColumn("place", F.col("offset") + F.row_number().over(in_part) - 1)
        .withColumn(FILE, F.format_string("%s/part-%05d.parquet", "split", number))
        .drop("hash", "part", "offset")
    )


def validation_pool(items: DataFrame, rows: DataFrame, *, size: int, seed: int) -> DataFrame:
    """The items that validation searches in: those of the held-out pairs, and a sample of the active ones up to `size`.

    Returns:
        item_id, title, item_key, image_sha256.
    """
    wanted = rows.where(F.col("split") != TRAIN).select("item_id", F.lit(True).alias("is_wanted")).distinct()
    size = max(size, wanted.count())
    return (
        items.join(wanted, on="item_id", how="left")
        .where(F.col("is_active") | F.col("is_wanted"))
        .orderBy(F.col("is_wanted").desc_nulls_last(), F.xxhash64(F.lit(seed), "item_id"), "item_id")
        .limit(size)
        .select("item_id", "title", F.xxhash64("item_id").alias("item_key"), "image_sha256")
    )


def with_photos(rows: DataFrame, images: DataFrame) -> DataFrame:
    """Add `photo` and `photo_key` in place of `image_sha256`.

    Args:
        rows: image_sha256, and whatever else.
        images: Rows of item_images.

    Returns:
        `rows` with photo BINARY, b"" without a photo or with an unreadable one; photo_key BIGINT, 0 in that case.
    """
    readable = images.where("readable").select("content_sha256", "content")
    has_photo = F.col("content").isNotNull()
    return (
        rows.join(readable, on=F.col("image_sha256") == F.col("content_sha256"), how="left")
        .withColumn("photo_key", F.when(has_photo, F.xxhash64("image_sha256")).otherwise(F.lit(0)))
        .withColumn("photo", F.when(has_photo, F.col("content")).otherwise(F.lit(b"")))
        .drop("content", "content_sha256", "image_sha256")
    )
