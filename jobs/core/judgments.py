"""Judged queries: what people found relevant, for evaluation and gates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pydantic import Field, model_validator
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.core.job import JobRun
from jobs.core.lake import Lake
from jobs.core.options import DatedOptions
from jobs.core.sources import identifier_of, read_source
from schemas import JOB_RUNS


class JudgedOptions(DatedOptions):
    """Where judged queries lie, for the jobs that measure with them."""

    judged_queries: str | None = Field(None, description="Table of query_id, query: Parquet, CSV, JSON lines or Delta.")
    judgments: str | None = Field(None, description="Table of query_id, item_id: what is relevant.")

    @model_validator(mode="after")
    def _both_or_neither(self) -> JudgedOptions:
        if (self.judged_queries is None) != (self.judgments is None):
            raise ValueError("--judged-queries and --judgments belong together: give both or neither")
        return self


def read_judged_queries(job: JobRun, options: JudgedOptions, *, attributes: Sequence[str] = ()) -> DataFrame:
    """Read the judged queries that have a relevant item.

    Args:
        job: The run that reads them.
        options: Where they lie.
        attributes: Further columns of the queries' table.

    Returns:
        query_id, query, relevant (array of item_id) and attributes (map of column to value as text).
    """
    job.access.sources.extend((options.judged_queries, options.judgments))
    queries = read_source(job.spark, options.judged_queries, required=("query_id", "query", *attributes))
    judgments = read_source(job.spark, options.judgments, required=("query_id", "item_id"))
    of_query, of_item = (
        identifier_of(name, judgments.schema[name].dataType).alias(name) for name in ("query_id", "item_id")
    )
    # As text, because Spark groups by no map.
    as_json = F.to_json(F.struct(*attributes)) if attributes else F.lit("{}")
    query_id = identifier_of("query_id", queries.schema["query_id"].dataType).alias("query_id")
    return (
        queries.select(query_id, "query", as_json.alias("attributes"))
        .join(judgments.select(of_query, of_item), on="query_id", how="inner")
        .groupBy("query_id", "query", "attributes")
        .agg(F.collect_set("item_id").alias("relevant"))
        .withColumn("attributes", F.from_json("attributes", "map<string,string>"))
    )


def judged_set_digest(queries: Iterable[tuple[str, str]]) -> str:
    """Names a set of judged queries by their (query_id, query), whatever answers them today: 12 hex digits."""
    lines = sorted(json.dumps(query) for query in queries)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def judged_runs(lake: Lake, judged_set: str) -> dict[str, int]:
    """Job to how many of its runs, as far as they are recorded, measured these queries."""
    measured_them = F.map_contains_key("figures", _figure_of(judged_set))
    rows = lake.read(JOB_RUNS).where(measured_them).groupBy("job").count().orderBy("job").collect()
    return {row["job"]: row["count"] for row in rows}


class JudgedRun(NamedTuple):
    """A run that measures judged queries.

    Args:
        judged_set: Their digest.
        number: 1 for the first run that measured them.
    """

    judged_set: str
    number: int


def count_judged_run(job: JobRun, queries: Sequence[tuple[str, str]]) -> JudgedRun:
    """Record that this run measures these queries, and say how many runs measured them before.

    Queries that have chosen among many models no longer tell how good the chosen one is: the count says how much they
    are worn.  A run counts whether it succeeds or fails; one whose process is killed leaves no record.

    Args:
        job: The run; its record gets the figures `judged_set <digest>` (queries) and `judged_run` (1 for the first).
        queries: (query_id, query) of each.
    """
    digest = judged_set_digest(queries)
    runs = judged_runs(job.lake, digest)
    number = 1 + sum(runs.values())
    job.figure(_figure_of(digest), len(queries))
    job.figure("judged_run", number)
    earlier = ", ".join(f"{count:,} of {of_job}" for of_job, count in runs.items())
    job.note(
        f"run {number:,} over these {len(queries):,} judged queries" + (f" (before: {earlier})" if earlier else "")
    )
    return JudgedRun(digest, number)


def _figure_of(judged_set: str) -> str:
    return f"judged_set {judged_set}"
