"""What a build's neighbours say of the catalog: items that are nearly the same, and queries that find nothing near."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.core.job import JobRun
from jobs.index.builds import items_of
from jobs.index.knn_join import knn_join
from jobs.index.searcher import Searcher
from schemas import DUPLICATE_ITEMS, QUERY_EMBEDDINGS, QUERY_NEIGHBOURS

# Of an item, so many that are most like it are looked at; chains of pairs reach the others of a larger group.
_NEAREST = 5
_DEPTH = 10
# Scores are recorded to so many decimals: where a vector stands in memory changes the ones after.
_DECIMALS = 4


def record_duplicates(job: JobRun, build: Searcher, *, min_score: float) -> int:
    """Record the items of a build that lie closer to another than a bound; returns how many.

    Args:
        job: The run.
        build: The build.
        min_score: Least cosine of two items that count as nearly the same.
    """
    manifest = build.manifest
    items = items_of(job.lake, manifest, job.spark).select(F.col("item_id").alias("like"))
    found = knn_join(items, _NEAREST, lake=job.lake, by="like", build_id=manifest.build_id)
    score = F.round("score", _DECIMALS).alias("score")
    pairs = found.select("like", "item_id", score).where(F.col("score") >= min_score).collect()
    scores: dict[str, float] = {}
    for pair in pairs:
        for item_id in (pair["like"], pair["item_id"]):
            scores[item_id] = max(scores.get(item_id, 0.0), pair["score"])
    rows = [
        (manifest.build_id, item_id, number, scores[item_id])
        for number, group in enumerate(_groups(pairs), start=1)
        for item_id in group
    ]
    job.lake.replace(
        DUPLICATE_ITEMS,
        job.spark.createDataFrame(rows, DUPLICATE_ITEMS.schema),
        where=F.col("build_id") == F.lit(manifest.build_id),
    )
    return len(rows)


def _groups(pairs: Iterable[Row]) -> list[list[str]]:
    """Items that chains of pairs join, in the order of their first items."""
    group_of: dict[str, list[str]] = {}
    for pair in pairs:
        one, other = (group_of.setdefault(item_id, [item_id]) for item_id in (pair["like"], pair["item_id"]))
        if one is not other:
            smaller, larger = sorted((one, other), key=len)
            larger += smaller
            group_of.update(dict.fromkeys(smaller, larger))
    distinct = {id(group): group for group in group_of.values()}
    return sorted(sorted(group) for group in distinct.values())


def record_query_neighbours(job: JobRun, build: Searcher, *, min_score: float) -> tuple[int, int]:
    """Record how near the items are that head queries find; returns how many queries there are, and are covered.

    Args:
        job: The run.
        build: The build.
        min_score: Least cosine of a query and its best item for the query to count as covered.
    """
    manifest = build.manifest
    of_model = F.col("model_version") == manifest.model_version
    head = job.lake.read(QUERY_EMBEDDINGS).where(of_model)
    queries = head.select("query", "impressions", F.col("embedding").alias("vector"))
    found = knn_join(queries, _DEPTH, lake=job.lake, build_id=manifest.build_id)
    score = F.round("score", _DECIMALS).cast("float")
    best = found.groupBy("query", "impressions").agg(
        F.max_by("item_id", -F.col("rank")).alias("item_id"),
        F.max(score).alias("score"),
        F.max(F.when(F.col("rank") == _DEPTH, score)).alias("score_at_10"),
    )
    rows = best.withColumns(
        {"build_id": F.lit(manifest.build_id), "is_covered": F.col("score") >= F.lit(min_score).cast("float")}
    )
    of_build = F.col("build_id") == F.lit(manifest.build_id)
    job.lake.replace(QUERY_NEIGHBOURS, rows.select(QUERY_NEIGHBOURS.column_names), where=of_build)
    told = job.lake.read(QUERY_NEIGHBOURS).where(of_build)
    counts = told.agg(F.count("*").alias("queries"), F.count_if("is_covered").alias("covered")).first()
    return counts["queries"], counts["covered"]
