"""Weigh what shoppers clicked and bought, and join queries whose shoppers clicked the same products.

Reads:  query_events; query_item_pairs and similar_queries once they are written
Writes: query_item_pairs, similar_queries
"""

from __future__ import annotations

import datetime as dt

from pydantic import Field
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from jobs.core.job import DatedOptions, JobError, JobRun, main
from schemas import QUERY_EVENTS, QUERY_ITEM_PAIRS, SIMILAR_QUERIES

# A purchase is worth this many clicks, on top of the click that led to it.
PURCHASE_WEIGHT = 3
# Impressions at the log's own click-through rate that every position starts with, so that thin positions stay tame.
PRIOR_IMPRESSIONS = 100
# No position is taken to be looked at less often than this, compared with the best one; it bounds a click's weight.
LEAST_PROPENSITY = 0.05

# Sums of weights are taken over decimals, whose order does not matter: the same log gives the same table to the bit.
_EXACT_WEIGHT = "decimal(28,6)"
_EXACT_COSINE = "decimal(28,12)"


class Options(DatedOptions):
    """Weigh what shoppers clicked and bought, and join queries whose shoppers clicked the same products."""

    window_days: int = Field(14, ge=1, description="Dates of the log, the logical date the last of them.")
    min_shared_items: int = Field(1, ge=1, description="Products that two similar queries have in common.")
    min_similarity: float = Field(
        0.15, gt=0, lt=1, description="Least cosine of two queries, times n / (n + 1) for n products in common."
    )
    max_neighbors: int = Field(20, ge=1, description="Nearest queries that each query proposes as similar.")
    max_queries_per_item: int = Field(
        200, ge=2, description="Queries that a product joins, the heaviest; bounds the pairs that it makes."
    )

    @property
    def first_date(self) -> dt.date:
        """First date of the window."""
        return self.date - dt.timedelta(days=self.window_days - 1)


def position_propensities(events: DataFrame) -> DataFrame:
    """How often shoppers look at a position, compared with the position that they look at most.

    A position's click-through rate, smoothed towards the log's, over the best position's.  It takes the mix of products
    to be alike at all positions (inverse propensity scoring as in Joachims et al., Unbiased Learning-to-Rank with
    Biased Feedback, 2017; there the propensities come from randomised ranks, which a log alone does not have).

    Args:
        events: event_type, position.

    Returns:
        position INT, propensity DOUBLE in [LEAST_PROPENSITY, 1]; a row a position that the log has.
    """
    by_position = (
        events.where(F.col("position").isNotNull())
        .groupBy("position")
        .agg(
            F.count_if(F.col("event_type") == "click").alias("clicks"),
            # A position was shown at least as often as it was clicked, though the log may lack the impressions.
            F.greatest(
                F.count_if(F.col("event_type") == "impression"), F.count_if(F.col("event_type") == "click")
            ).alias("impressions"),
        )
    )
    whole_log = Window.partitionBy()
    log_rate = F.sum("clicks").over(whole_log) / F.greatest(F.sum("impressions").over(whole_log), F.lit(1))
    rates = by_position.withColumn(
        "rate", (F.col("clicks") + PRIOR_IMPRESSIONS * log_rate) / (F.col("impressions") + PRIOR_IMPRESSIONS)
    )
    relative = F.coalesce(F.try_divide("rate", F.max("rate").over(whole_log)), F.lit(1.0))
    return rates.select("position", F.greatest(relative, F.lit(LEAST_PROPENSITY)).alias("propensity"))


def weigh_pairs(events: DataFrame, propensities: DataFrame) -> DataFrame:
    """Count and weigh what was done with each item that each query showed.

    Args:
        events: Rows of query_events.
        propensities: As `position_propensities` gives them.

    Returns:
        query, item_id, impressions, clicks, purchases, weight = sum over clicks of 1 / propensity, and over purchases
        of PURCHASE_WEIGHT / propensity, of their positions.  An event without a position counts as at the best one.
    """
    worth = F.when(F.col("event_type") == "click", 1).when(F.col("event_type") == "purchase", PURCHASE_WEIGHT)
    weight = F.coalesce(worth, F.lit(0)) / F.coalesce(F.col("propensity"), F.lit(1.0))
    return (
        events.join(F.broadcast(propensities), on="position", how="left")
        .groupBy("query", "item_id")
        .agg(
            F.count_if(F.col("event_type") == "impression").alias("impressions"),
            F.count_if(F.col("event_type") == "click").alias("clicks"),
            F.count_if(F.col("event_type") == "purchase").alias("purchases"),
            F.sum(weight.cast(_EXACT_WEIGHT)).cast("double").alias("weight"),
        )
    )


def similar_queries(
    pairs: DataFrame, *, min_shared_items: int, min_similarity: float, max_neighbors: int, max_queries_per_item: int
) -> DataFrame:
    """Join queries by the cosine of their weights over products.

    One product in common is little evidence, so the cosine must reach `min_similarity` after it is shrunk by
    n / (n + 1), n being the products in common: .3 with one, .225 with two.  That way queries that came once or twice,
    most of a log, find neighbours too.

    Args:
        pairs: query, item_id, weight; rows without weight join nothing.
        min_shared_items: Products in common, at least.
        min_similarity: Bound of the shrunk cosine.
        max_neighbors: Each query proposes this many nearest ones; what either end proposes stays.
        max_queries_per_item: Of a product with more queries only the heaviest so many are compared, which bounds the
            work at the square of it a product; the cosine of a pair beyond it lacks that product.

    Returns:
        query, similar_query, similarity (the cosine itself), shared_items; both directions of every edge.
    """
    clicked = pairs.where(F.col("weight") > 0)
    norm = F.sqrt(F.sum((F.col("weight") * F.col("weight")).cast(_EXACT_WEIGHT)).over(Window.partitionBy("query")))
    heaviest = Window.partitionBy("item_id").orderBy(F.desc("weight"), "query")
    unit = (
        clicked.withColumn("unit", F.col("weight") / norm)
        .withColumn("rank", F.row_number().over(heaviest))
        .where(F.col("rank") <= max_queries_per_item)
        .select("query", "item_id", "unit")
    )
    product = (F.col("a.unit") * F.col("b.unit")).cast(_EXACT_COSINE)
    shrunk = F.col("similarity") * F.col("shared_items") / (F.col("shared_items") + 1)
    edges = (
        unit.alias("a")
        .join(unit.alias("b"), on=(F.col("a.item_id") == F.col("b.item_id")) & (F.col("a.query") < F.col("b.query")))
        .groupBy(F.col("a.query").alias("query"), F.col("b.query").alias("similar_query"))
        .agg(F.sum(product).cast("double").alias("similarity"), F.count("*").alias("shared_items"))
        .where((F.col("shared_items") >= min_shared_items) & (shrunk >= min_similarity))
    )
    nearest = Window.partitionBy("query").orderBy(F.desc(shrunk), "similar_query")
    proposed = (
        both_directions(edges)
        .withColumn("rank", F.row_number().over(nearest))
        .where(F.col("rank") <= max_neighbors)
        .drop("rank")
    )
    return both_directions(proposed).distinct()


def both_directions(edges: DataFrame) -> DataFrame:
    """Every edge once as it is and once with its ends exchanged."""
    ends = (("query", "similar_query"), ("similar_query", "query"))
    directions = [
        F.struct(F.col(start).alias("query"), F.col(end).alias("similar_query"), "similarity", "shared_items")
        for start, end in ends
    ]
    return edges.select(F.inline(F.array(*directions)))


def run(job: JobRun, options: Options) -> None:
    """Weigh the window's events and replace both tables."""
    events = job.lake.read(QUERY_EVENTS)
    events = events.where(F.col("event_date").between(options.first_date, options.date))
    with job.stage("weigh"):
        pairs = (
            weigh_pairs(events, position_propensities(events))
            .withColumns({"window_start": F.lit(options.first_date), "window_end": F.lit(options.date)})
            .persist(StorageLevel.DISK_ONLY)
        )
        totals = pairs.agg(
            F.coalesce(F.sum(F.col("impressions") + F.col("clicks") + F.col("purchases")), F.lit(0)).alias("events"),
            F.count("*").alias("pairs"),
            F.count_if(F.col("weight") > 0).alias("clicked_pairs"),
            F.countDistinct(F.when(F.col("weight") > 0, F.col("query"))).alias("clicked_queries"),
        ).first()
    if totals["events"] == 0:
        raise JobError(
            f"query_events holds no event from {options.first_date} to {options.date}: run query-log ingest for them"
        )
    with job.stage("pairs"):
        has_new_pairs = job.lake.replace(QUERY_ITEM_PAIRS, pairs)
    pairs.unpersist()
    with job.stage("similar"):
        neighbors = similar_queries(
            job.lake.read(QUERY_ITEM_PAIRS),
            min_shared_items=options.min_shared_items,
            min_similarity=options.min_similarity,
            max_neighbors=options.max_neighbors,
            max_queries_per_item=options.max_queries_per_item,
        )
        has_new_neighbors = job.lake.replace(SIMILAR_QUERIES, neighbors)

    graph = job.lake.read(SIMILAR_QUERIES).agg(F.countDistinct("query").alias("queries"), F.count("*").alias("edges"))
    job.count(rows_in=totals["events"], rows_out=totals["pairs"], rows_rejected=0)
    for name in ("clicked_pairs", "clicked_queries"):
        job.figure(name, totals[name])
    similar = graph.first()
    job.figure("queries_with_neighbors", similar["queries"])
    job.figure("similar_query_rows", similar["edges"])
    job.note(f"{similar['queries']:,} of {totals['clicked_queries']:,} clicked queries have similar ones")
    if not (has_new_pairs or has_new_neighbors):
        job.unchanged()


if __name__ == "__main__":
    main(run, Options)
