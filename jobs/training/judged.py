"""The queries that models are judged by, with what slices need to know of their relevant items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from pydantic import Field
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.core.job import JobError, JobRun
from jobs.core.judgments import JudgedOptions, count_judged_run, read_judged_queries
from jobs.core.options import CommaSeparated
from jobs.training.slices import (
    JudgedQuery,
    RelevantItem,
    Slice,
    cut_slices,
    head_bound,
    mistyped_queries,
    typo_slice,
)
from models.make.text import normalize_text
from schemas import ITEMS, QUERY_ITEM_PAIRS, TRAINING_SETS


class MeasuringOptions(JudgedOptions):
    """What every job takes that measures models over the full catalog."""

    slice_by: CommaSeparated[str] = Field(
        [], description="Columns of the judged queries whose values are slices, as a,b."
    )
    batch_size: int = Field(128, ge=1, le=1024, description="Items that the model sees at once.")


@dataclass(frozen=True)
class JudgedSet:
    """What models are judged by.

    Args:
        digest: Names the queries, as `judged_set_digest` does.
        run: Which run over these queries this one is, 1 for the first.
        queries: Those that have a relevant item in the catalog, in order of query_id.
    """

    digest: str
    run: int
    queries: Sequence[JudgedQuery]

    @cached_property
    def mistyped(self) -> dict[int, str]:
        """Position of a query to the same with a typo."""
        return mistyped_queries(self.queries)

    @cached_property
    def texts(self) -> list[str]:
        """All that is asked of a model: the queries, then those with a typo."""
        return [query.query for query in self.queries] + list(self.mistyped.values())

    @cached_property
    def meant(self) -> list[JudgedQuery]:
        """What each of `texts` means."""
        return [*self.queries, *(self.queries[position] for position in self.mistyped)]

    @cached_property
    def slices(self) -> list[Slice]:
        """`all`, `typos` beside it, then the others; over rankings in the order of `texts`."""
        whole, *others = cut_slices(self.queries)
        return [whole, *([typo_slice(self.queries, self.mistyped)] if self.mistyped else []), *others]


def load_judged_set(job: JobRun, options: MeasuringOptions, *, training_set_id: str) -> JudgedSet:
    """The judged queries, or without any the training set's held-out ones; this run over them is counted.

    Only active items count as relevant, since no model finds others; queries that have none are left out and counted.

    Raises:
        JobError: No query is left, or the training set is gone.
    """
    if options.judged_queries:
        queries = read_judged_queries(job, options, attributes=options.slice_by)
    else:
        queries = _held_out_queries(job, training_set_id)
        job.note(
            f"no judged queries: measured on the held-out queries of training set {training_set_id}, which chose the "
            "best weights of each model trained on it, and which a model of another set may have learnt from"
        )
    asked = [(row["query_id"], row["query"]) for row in queries.select("query_id", "query").collect()]
    digest, run = count_judged_run(job, asked)
    pairs = job.lake.read(QUERY_ITEM_PAIRS)
    rows = (
        queries.withColumn("item_id", F.explode("relevant"))
        .drop("relevant")
        .join(job.lake.read(ITEMS).where("is_active"), on="item_id", how="inner")
        .join(traffic(pairs, "item_id"), on="item_id", how="left")
        .select("query_id", "query", "attributes", "item_id", "title", "category", "traffic")
        .orderBy("query_id", "item_id")
        .collect()
    )
    of_query = defaultdict(list)
    for row in rows:
        of_query[row["query_id"], row["query"]].append(row)
    if not of_query:
        raise JobError("no judged query has a relevant item in the catalog: nothing can be measured")
    left_out = len(asked) - len(of_query)
    if left_out:
        job.note(f"{left_out:,} queries have no relevant item in the catalog: left out")
    of_text = _traffic_of_texts(job, pairs, {query for _, query in of_query})
    judged = [
        JudgedQuery(
            query_id=query_id,
            query=query,
            attributes=answers[0]["attributes"],
            relevant={
                row["item_id"]: RelevantItem(row["title"], row["category"], row["traffic"] or "none") for row in answers
            },
            traffic=of_text.get(normalize_text(query), "none"),
        )
        for (query_id, query), answers in of_query.items()
    ]
    return JudgedSet(digest, run, judged)


def traffic(pairs: DataFrame, key: str) -> DataFrame:
    """Whatever the log's window shows, by `key` (query or item_id), with `traffic`: head or tail."""
    shown = pairs.groupBy(key).agg(F.sum("impressions").alias("impressions"))
    counts = {row["impressions"]: row["count"] for row in shown.groupBy("impressions").count().collect()}
    is_head = F.col("impressions") >= head_bound(counts)
    return shown.select(key, F.when(is_head, "head").otherwise("tail").alias("traffic"))


def _traffic_of_texts(job: JobRun, pairs: DataFrame, texts: Collection[str]) -> dict[str, str]:
    """Normalised text to head or tail, of those that the log's window asks."""
    asked = job.spark.createDataFrame([(normalize_text(text),) for text in sorted(texts)], "query string").distinct()
    known = traffic(pairs, "query").join(asked, on="query", how="inner")
    return {row["query"]: row["traffic"] for row in known.collect()}


def _held_out_queries(job: JobRun, training_set_id: str) -> DataFrame:
    """The split validation_queries in the form of judged queries."""
    training_set = job.lake.read(TRAINING_SETS).where(F.col("training_set_id") == training_set_id).first()
    if training_set is None:
        raise JobError(f"training set {training_set_id} is not in training_sets: run `training build-set` again")
    rows = job.spark.read.parquet(job.lake.uri(training_set["uri"], "validation_queries"))
    return (
        rows.groupBy("query")
        .agg(F.collect_set("item_id").alias("relevant"))
        .select(
            F.col("query").alias("query_id"),
            "query",
            "relevant",
            F.create_map().cast("map<string,string>").alias("attributes"),
        )
    )
