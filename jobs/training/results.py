"""What models answered to judged queries, as the lake keeps it: a row a model, date, slice and query."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.core.job import JobRun
from jobs.core.lake import Lake
from jobs.training.judged import JudgedSet
from schemas import JUDGED_RESULTS

# Results of a query that are kept.
KEPT_RESULTS = 10


def keep_results(
    job: JobRun, model_version: str, judged: JudgedSet, date: dt.date, ranked: Sequence[Sequence[str]]
) -> bool:
    """Write every query's measures in every slice, in place of what an earlier run for the date wrote.

    Args:
        job: The run.
        model_version: The model that ranked.
        judged: The queries.
        date: The run's date.
        ranked: For each of `judged.texts` the ids found, best first.

    Returns:
        Whether anything differs from what was there.
    """
    rows = []
    for part in judged.slices:
        by_query = part.measure(ranked)
        for n, position in enumerate(part.positions):
            rows.append(
                {
                    "model_version": model_version,
                    "judged_set": judged.digest,
                    "logical_date": date,
                    "slice": part.name,
                    "query_id": judged.meant[position].query_id,
                    "query": judged.texts[position],
                    **{name: float(values[n]) for name, values in by_query.items()},
                    "relevant": sorted(part.relevant[n]),
                    "found": list(ranked[position][:KEPT_RESULTS]),
                    "measured_at": dt.datetime.now(dt.UTC),
                }
            )
    frame = job.spark.createDataFrame(rows, JUDGED_RESULTS.schema)
    return job.lake.replace(JUDGED_RESULTS, frame, _is_of(model_version, judged.digest, date))


def last_results(lake: Lake, model_version: str, until: dt.date) -> DataFrame | None:
    """The model's rows of its newest measurement up to the date; None when it was never measured."""
    rows = lake.read(JUDGED_RESULTS).where(
        (F.col("model_version") == model_version) & (F.col("logical_date") <= F.lit(until))
    )
    newest = rows.orderBy(F.desc("logical_date"), F.desc("measured_at")).first()
    return None if newest is None else results_of(lake, model_version, newest["judged_set"], newest["logical_date"])


def results_of(lake: Lake, model_version: str, judged_set: str, date: dt.date) -> DataFrame:
    """The model's rows of one measurement; none when it was not measured so."""
    return lake.read(JUDGED_RESULTS).where(_is_of(model_version, judged_set, date))


def _is_of(model_version: str, judged_set: str, date: dt.date) -> Column:
    return (
        (F.col("model_version") == model_version)
        & (F.col("judged_set") == judged_set)
        & (F.col("logical_date") == F.lit(date))
    )
