"""Promote a candidate if it is better than the model that is promoted now, and loses no slice of the queries by much.

Reads:  models, judged_results
Writes: models
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Literal

import pandas as pd
from pydantic import Field
from pyspark.sql import functions as F

from jobs.core.job import DatedOptions, JobError, JobRun, JobSkipped, main
from jobs.core.serving import find_model, newest_promoted_model
from jobs.training.paired import ENOUGH_QUERIES, Difference, joint_level
from jobs.training.results import last_results, results_of
from jobs.training.slices import ALL
from schemas import MODELS

# Reasons of a refusal that are told, the overall one first.
_REASONS_TOLD = 4


class Options(DatedOptions):
    """Promote a candidate if it is better than the model that is promoted now, and loses no slice by much."""

    model_version: str | None = Field(None, description="The candidate; default: the model trained last.")
    measure: Literal["recall_at_1", "recall_at_10", "recall_at_100", "ndcg_at_10", "mrr"] = Field(
        "recall_at_10", description="What decides: its mean over the judged queries must be higher."
    )
    slice_tolerance: float = Field(
        0.05, ge=0, le=1, description=f"Most that a slice of {ENOUGH_QUERIES} queries or more may lose of the measure."
    )
    reason: str | None = Field(
        None,
        min_length=1,
        description="Promote a measured model that would be refused, for this reason, which is kept.",
    )


def pair_slices(champion: pd.DataFrame, challenger: pd.DataFrame) -> dict[str, Difference]:
    """Slice to difference, over the queries that both models have in it.

    Intervals are of 95 %: for `all` by itself, for the other slices all together.

    Args:
        champion, challenger: slice, query_id and value; a query of a slice a row.
    """
    both = champion.merge(challenger, on=["slice", "query_id"], suffixes=("_before", "_after"))
    level = joint_level(max(1, both["slice"].nunique() - 1))
    return {
        name: Difference.between(
            rows["value_before"].to_numpy(), rows["value_after"].to_numpy(), level=0.95 if name == ALL else level
        )
        for name, rows in both.sort_values("query_id").groupby("slice")
    }


def refusals(paired: Mapping[str, Difference], *, slice_tolerance: float) -> list[str]:
    """Why the challenger may not be promoted, a line each, the slice that lost most first; none when it may."""
    whole = paired[ALL]
    found = [] if whole.change > 0 else [f"{_words(whole)}: it has to be higher"]
    for name, difference in sorted(paired.items(), key=lambda item: item[1].change):
        if name != ALL and difference.queries >= ENOUGH_QUERIES and difference.change < -slice_tolerance:
            found.append(f"slice {name}: {_words(difference)}: at most {slice_tolerance:g} less is accepted")
    return found


def _words(difference: Difference) -> str:
    return (
        f"{difference.challenger:.4f} against {difference.champion:.4f} over {difference.queries:,} queries "
        f"(change {difference.change:+.4f}, interval {difference.lower:+.4f} to {difference.upper:+.4f})"
    )


def compare_with_champion(
    job: JobRun, options: Options, challenger: str, champion: str | None
) -> dict[str, Difference]:
    """The measure's differences by slice; none before the first promotion.

    Raises:
        JobError: One of the two was not measured, or not on the same queries for the same date.
    """
    after = last_results(job.lake, challenger, options.date)
    if after is None:
        raise JobError(f"{challenger} was not measured on judged queries yet: run `training evaluate` first")
    if champion is None:
        return {}
    what = after.first()
    before = results_of(job.lake, champion, what["judged_set"], what["logical_date"])
    columns = ["slice", "query_id", F.col(options.measure).alias("value")]
    paired = pair_slices(*(rows.select(columns).toPandas() for rows in (before, after)))
    if ALL not in paired:
        raise JobError(
            f"the promoted {champion} was not measured on the queries that {challenger} answered for "
            f"{what['logical_date']}: run `training evaluate --model-version {challenger}`, which measures both"
        )
    for name, difference in paired.items():
        job.figure(f"change_of_{options.measure} [{name}]", difference.change)
    return paired


def run(job: JobRun, options: Options) -> None:
    """Compare with the champion, then change one row; a refusal is a verdict, not a failure."""
    lake = job.lake
    challenger = find_model(lake, options.model_version)
    version = challenger["model_version"]
    if challenger["stage"] == "promoted":
        job.unchanged()
        job.note(f"{version} is promoted already")
        return
    promoted = newest_promoted_model(lake)
    champion = promoted and promoted["model_version"]
    paired = compare_with_champion(job, options, version, champion)
    refused = refusals(paired, slice_tolerance=options.slice_tolerance) if paired else []
    against = f"{options.measure} of {version} against the promoted {champion}: "
    told = "; ".join(refused[:_REASONS_TOLD])
    if len(refused) > _REASONS_TOLD:
        told += f"; and {len(refused) - _REASONS_TOLD} more slices, all of which `training compare` shows"
    if refused and not options.reason:
        raise JobSkipped(f"refused: {against}{told}. {champion} stays; train further, or promote it with --reason")
    row = {**challenger.asDict(), "stage": "promoted", "promoted_at": dt.datetime.now(dt.UTC)}
    row["promotion_reason"] = options.reason
    lake.merge(MODELS, job.spark.createDataFrame([row], MODELS.schema))
    job.count(rows_out=1)
    if paired:
        job.note(against + (told or _words(paired[ALL])))
    job.note(f"{version} is promoted" + (f"; reason: {options.reason}" if options.reason else ""))


if __name__ == "__main__":
    main(run, Options)
