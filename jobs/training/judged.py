"""The queries that models are judged by, with what slices need to know of their relevant items."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import NoDecode
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.core.job import JobError, JobRun
from jobs.core.judgments import JudgedOptions, read_judged_queries
from jobs.training.slices import JudgedQuery, RelevantItem
from schemas import ITEMS, QUERY_ITEM_PAIRS, TRAINING_SETS


class MeasuringOptions(JudgedOptions):
    """What every job takes that measures models over the full catalog."""

    slice_by: Annotated[list[str], NoDecode] = Field(
        [], description="Columns of the judged queries whose values are slices, as a,b."
    )
    batch_size: int = Field(128, ge=1, le=1024, description="Items that the model sees at once.")

    @field_validator("slice_by", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


def load_judged_queries(job: JobRun, options: MeasuringOptions, *, training_set_id: str) -> list[JudgedQuery]:
    """The judged queries, or without any the training set's held-out ones, in order of query_id.

    Only active items count as relevant, since no model finds others; queries that have none are left out and counted.

    Raises:
        JobError: No query is left, or the training set is gone.
    """
    if options.judged_queries:
        queries = read_judged_queries(job.spark, options, attributes=options.slice_by)
    else:
        queries = _held_out_queries(job, training_set_id)
    answered = queries.withColumn("item_id", F.explode("relevant")).drop("relevant")
    shown = job.lake.read(QUERY_ITEM_PAIRS).select("item_id", F.lit(True).alias("was_shown")).distinct()
    rows = (
        answered.join(job.lake.read(ITEMS).where("is_active"), on="item_id", how="inner")
        .join(shown, on="item_id", how="left")
        .select("query_id", "query", "attributes", "item_id", "title", "category", "was_shown")
        .orderBy("query_id", "item_id")
        .collect()
    )
    of_query = defaultdict(list)
    for row in rows:
        of_query[row["query_id"], row["query"]].append(row)
    if not of_query:
        raise JobError("no judged query has a relevant item in the catalog: nothing can be measured")
    left_out = queries.count() - len(of_query)
    if left_out:
        job.note(f"{left_out:,} queries have no relevant item in the catalog: left out")
    return [
        JudgedQuery(
            query_id=query_id,
            query=query,
            attributes=answers[0]["attributes"],
            relevant={
                row["item_id"]: RelevantItem(row["title"], row["category"], row["was_shown"] is True) for row in answers
            },
        )
        for (query_id, query), answers in of_query.items()
    ]


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
