"""Cut a training set: join pairs with titles and photos, hold out validation, write constant row groups.

Reads:  query_item_pairs, similar_queries, items, item_images
Writes: training_sets, and the folder training_sets/<training_set_id>/

The folder holds `train/`, a product a row with the queries whose clicks led to it (none for an active item that the
log never led to: training makes queries of its title); a (query, item) with clicks a row, `validation_queries/` (whole
groups of queries held out; their products may train) and `validation_items/` (whole groups of queries held out together
with every product that they lead to: no row of train has a product of the same title); `texts.parquet`, every title and
query of train once; `items.parquet`, the pool that validation searches; and `manifest.json`, written last.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
from collections import Counter
from typing import Any, NamedTuple

from pydantic import Field
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.storagelevel import StorageLevel

from jobs.core.job import DatedOptions, JobError, JobRun, main
from jobs.core.lake import Lake
from jobs.training import rows as transforms
from jobs.training.row_groups import FILE, RowGroupFile, WrittenFile, write_files
from jobs.training.splits import SPLITS, TRAIN, VALIDATION_ITEMS, VALIDATION_QUERIES, group_queries, hold_out_groups
from schemas import ITEM_IMAGES, ITEMS, QUERY_ITEM_PAIRS, SIMILAR_QUERIES, TRAINING_SETS

# Changes whenever the same tables and settings would give other files.
FORMAT = 4

# Queries joined by an edge as strong as this are never on both sides of a split.
STRONG_SIMILARITY = 0.5
STRONG_SHARED_ITEMS = 2

POOL_FILE = "items.parquet"
TEXTS_FILE = "texts.parquet"
TEXTS_ROW_GROUP = 65_536


class Options(DatedOptions):
    """Cut a training set: join pairs with titles and photos, hold out validation, write constant row groups."""

    row_group_size: int = Field(256, ge=1, description="Rows of every row group but the last of a split.")
    validation_query_share: float = Field(0.05, ge=0, lt=0.5, description="Rows that hold out groups of queries.")
    validation_item_share: float = Field(
        0.02, ge=0, lt=0.5, description="Rows that hold out groups of queries with all their products."
    )
    min_clicks: int = Field(1, ge=1, description="A pair with fewer clicks, and no purchase, teaches nothing.")
    pool_items: int = Field(20_000, ge=1, description="Items that validation searches in.")
    silent_products: bool = Field(True, description="Active items that no click led to train too.")
    seed: int = Field(0, ge=0, description="Decides what is held out, and the order of the rows.")


def hold_out(rows: DataFrame, similar: DataFrame, shares: dict[str, float], *, seed: int) -> DataFrame:
    """Choose the queries of the validation splits, a group at a time.

    Collects distinct queries and strong edges to this process.

    Args:
        rows: query, and whatever else.
        similar: Rows of similar_queries.
        shares: Validation split to its share of the rows.
        seed: Another seed holds out other groups.

    Returns:
        query, split; queries that train are absent.
    """
    counts = rows.groupBy("query").count().toPandas().set_index("query")["count"].to_dict()
    is_strong = (F.col("similarity") >= STRONG_SIMILARITY) & (F.col("shared_items") >= STRONG_SHARED_ITEMS)
    once = F.col("query") < F.col("similar_query")
    edges = similar.where(is_strong & once).select("query", "similar_query").toPandas()
    group_of = group_queries(sorted(counts), edges.itertuples(index=False))
    rows_of_group: Counter[str] = Counter()
    for query, group in group_of.items():
        rows_of_group[group] += counts[query]
    held_out = hold_out_groups(rows_of_group, shares, seed=seed)
    queries = [(query, held_out[group]) for query, group in group_of.items() if group in held_out]
    return rows.sparkSession.createDataFrame(queries, "query string, split string")


def content_digest(*frames: DataFrame) -> str:
    """A digest of the frames' rows, whatever their order."""
    digests = []
    for frame in frames:
        row_hash = F.xxhash64(*sorted(frame.columns)).cast("decimal(38,0)")
        digests.append(frame.agg(F.count("*"), F.sum(row_hash)).first())
    return hashlib.sha256(str([tuple(map(str, digest)) for digest in digests]).encode()).hexdigest()


class SetContent(NamedTuple):
    """What goes into a set, before photos: the part that decides whether it is a new one."""

    products: DataFrame  # train, as transforms.product_rows gives it
    held_out: DataFrame  # the validation splits: split and transforms.PAIR_COLUMNS
    pool: DataFrame  # as transforms.validation_pool gives it
    counts: Counter[str]  # rows a split


def cut_content(job: JobRun, options: Options) -> SetContent:
    """Join, split and list; the frames are persisted.

    Raises:
        JobError: The pairs are of a later window, or no row trains.
    """
    pairs, similar, items = (job.lake.read(table) for table in (QUERY_ITEM_PAIRS, SIMILAR_QUERIES, ITEMS))
    window_end = pairs.agg(F.max("window_end")).first()[0]
    if window_end is None or window_end > options.date:
        raise JobError(
            f"expected query_item_pairs of a window up to {options.date}, got {window_end or 'no row'}: "
            f"run query-log pairs --date {options.date}"
        )
    joined = transforms.clicked_pairs(pairs, items, min_clicks=options.min_clicks).persist(StorageLevel.DISK_ONLY)
    shares = {
        VALIDATION_QUERIES: options.validation_query_share,
        VALIDATION_ITEMS: options.validation_item_share,
    }
    split = transforms.assign_splits(joined, hold_out(joined, similar, shares, seed=options.seed))
    split = split.persist(StorageLevel.DISK_ONLY)
    pair_counts = Counter({row["split"]: row["count"] for row in split.groupBy("split").count().collect()})
    if not pair_counts[TRAIN]:
        raise JobError(f"expected pairs to train on, got {dict(pair_counts)} by split: widen query-log pairs' window")

    neighbors = transforms.neighbors_in_train(similar, split)
    lists = transforms.listed_items(pairs, neighbors).persist(StorageLevel.DISK_ONLY)
    trained = split.where(F.col("split") == TRAIN)
    products = transforms.product_rows(transforms.with_similar_query(trained, neighbors, seed=options.seed), lists)
    if options.silent_products:
        products = products.unionByName(transforms.silent_products(items, split))
    taken = split.where(F.col("split") != transforms.WITHHELD)
    held_out = taken.where(F.col("split") != TRAIN).join(lists, on="query", how="inner")
    pool = transforms.validation_pool(items, taken, size=options.pool_items, seed=options.seed)
    products = products.withColumn("split", F.lit(TRAIN)).persist(StorageLevel.DISK_ONLY)
    of_products = products.agg(F.count("*").alias("rows"), F.count_if(F.size("queries") == 0).alias("silent")).first()
    counts = Counter({**pair_counts, TRAIN: of_products["rows"]})
    clicked = pairs.where(F.col("weight") > 0).count()
    _record_counts(job, clicked=clicked, pairs=pair_counts, products=counts[TRAIN], silent=of_products["silent"])
    held_out = held_out.select("split", *transforms.PAIR_COLUMNS)
    return SetContent(products, *(frame.persist(StorageLevel.DISK_ONLY) for frame in (held_out, pool)), counts)


def write_files_of_set(lake: Lake, folder: str, content: SetContent, options: Options) -> dict[str, list[WrittenFile]]:
    """Write all files of the set but its manifest, in place of what an interrupted run left.

    Args:
        folder: Folder of the set below the lake's root.

    Returns:
        The files of each split, and under their own names the pool and the texts.

    Raises:
        JobError: A split's files do not hold its rows.
    """
    path, size = lake.path(folder), options.row_group_size
    if lake.fs.exists(path):
        lake.fs.rm(path, recursive=True)
    uri = lake.uri(folder)
    images = lake.read(ITEM_IMAGES)
    naming = {"seed": options.seed, "row_group_size": size}
    # Photos are joined when rows have their place, so that only the shuffle that writes the files carries them.
    products = transforms.with_photos(
        transforms.name_files(content.products, identity=("item_id", "queries"), **naming), images
    ).select(FILE, "place", *transforms.PRODUCT_COLUMNS)
    held_out = transforms.name_files(content.held_out, identity=("query", "item_id"), **naming).drop("split")
    files = {}
    for named, splits in ((products, [TRAIN]), (held_out, [VALIDATION_QUERIES, VALIDATION_ITEMS])):
        rows_a_file = size * transforms.ROW_GROUPS_PER_FILE
        tasks = sum(math.ceil(content.counts[split] / rows_a_file) for split in splits)
        written = write_files(named, order=["place"], folder=uri, row_group_size=size, tasks=max(1, tasks))
        for split in splits:
            files[split] = [file for file in written if file.file.startswith(f"{split}/")]
            if sum(file.rows for file in files[split]) != content.counts[split]:
                raise JobError(
                    f"{split}: expected {content.counts[split]:,} rows, wrote {files[split]}: run the job again"
                )
            if not files[split]:
                schema = to_arrow_schema(named.drop(FILE, "place").schema)
                files[split] = [RowGroupFile(uri, f"{split}/part-00000.parquet", schema, size).close()]

    pool = transforms.with_photos(content.pool, images).select("item_id", "title", "photo", "item_key")
    queries = content.products.select(F.explode("queries").alias("text"))
    texts = queries.union(content.products.select("title")).distinct()
    for name, frame, order, group in ((POOL_FILE, pool, "item_id", size), (TEXTS_FILE, texts, "text", TEXTS_ROW_GROUP)):
        in_one_file = frame.withColumns({FILE: F.lit(name), "place": F.col(order)})
        files[name] = write_files(in_one_file, order=["place"], folder=uri, row_group_size=group, tasks=1)
    return files


def run(job: JobRun, options: Options) -> None:
    """Cut the set, unless the same one is there; its manifest and its row in training_sets commit it."""
    lake = job.lake
    # Rows carry photos: the default of 10,000 of them in one Arrow batch would pass 2 GiB.
    job.spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", str(min(options.row_group_size, 1_000)))
    delta_versions = lake.versions(QUERY_ITEM_PAIRS, SIMILAR_QUERIES, ITEMS, ITEM_IMAGES)
    with job.stage("split"):
        content = cut_content(job, options)
        settings = {"format": FORMAT, **options.model_dump(exclude=set(DatedOptions.model_fields))}
        digest = content_digest(content.products, content.held_out, content.pool)
    set_id = hashlib.sha256(json.dumps([settings, digest], sort_keys=True).encode()).hexdigest()[:16]
    folder = f"training_sets/{set_id}"
    manifest_path = lake.path(folder, "manifest.json")
    if not lake.fs.exists(manifest_path):
        with job.stage("write"):
            files = write_files_of_set(lake, folder, content, options)
        window = lake.read(QUERY_ITEM_PAIRS).agg(F.min("window_start"), F.max("window_end")).first()
        manifest = {
            "training_set_id": set_id,
            "settings": settings,
            "row_group_size": options.row_group_size,
            "splits": {name: _sizes(files[name]) for name in SPLITS},
            "pool": _sizes(files[POOL_FILE]),
            "texts": _sizes(files[TEXTS_FILE]),
            "window": dict(zip(("start", "end"), map(str, window), strict=True)),
            "delta_versions": delta_versions,
        }
        with lake.fs.open(manifest_path, "w") as stream:
            json.dump(manifest, stream, indent=2, sort_keys=True)
    job.spark.catalog.clearCache()
    with lake.fs.open(manifest_path) as stream:
        manifest = json.load(stream)
    if not _record_set(job, manifest, folder, options.date):
        job.unchanged()


def _record_counts(job: JobRun, *, clicked: int, pairs: Counter[str], products: int, silent: int) -> None:
    """Record what became of the clicked pairs, split by split, and of how many products train consists."""
    taken = sum(pairs[name] for name in SPLITS)
    job.count(rows_in=clicked, rows_out=taken, rows_rejected=clicked - taken)
    for name in SPLITS:
        job.figure(f"pairs_{name}", pairs[name])
    job.figure("rows_train", products)
    job.figure("products_without_clicks", silent)
    job.figure("left_out_product_held_out", pairs[transforms.WITHHELD])
    job.figure("left_out_few_clicks", clicked - pairs.total())
    parts = ", ".join(f"{pairs[name]:,} {name}" for name in (*SPLITS, transforms.WITHHELD))
    job.note(f"{parts}; train has {products:,} rows, {silent:,} of them products without clicks")


def _sizes(files: list[WrittenFile]) -> dict[str, Any]:
    return {
        "rows": sum(file.rows for file in files),
        "row_groups": sum(file.row_groups for file in files),
        "bytes": sum(file.bytes for file in files),
        "files": [file.file for file in files],
    }


def _record_set(job: JobRun, manifest: dict[str, Any], folder: str, logical_date: dt.date) -> bool:
    """Put the set into training_sets; False when it is there."""
    splits = manifest["splits"]
    job.figure("bytes", sum(split["bytes"] for split in splits.values()))
    row = {
        "training_set_id": manifest["training_set_id"],
        "logical_date": logical_date,
        "uri": folder,
        "train_rows": splits[TRAIN]["rows"],
        "validation_query_rows": splits[VALIDATION_QUERIES]["rows"],
        "validation_item_rows": splits[VALIDATION_ITEMS]["rows"],
        "row_groups": splits[TRAIN]["row_groups"],
        "row_group_size": manifest["row_group_size"],
        "delta_versions": manifest["delta_versions"],
        "created_at": dt.datetime.now(dt.UTC),
    }
    source = job.spark.createDataFrame([row], TRAINING_SETS.schema)
    return job.lake.merge(TRAINING_SETS, source, insert_only=True).inserted > 0


if __name__ == "__main__":
    main(run, Options)
