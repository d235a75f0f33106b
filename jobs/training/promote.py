"""Promote a candidate, unless it is worse than the model that is promoted now.

Reads:  models
Writes: models
"""

from __future__ import annotations

import datetime as dt

from pydantic import Field
from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.core.job import DatedOptions, JobError, JobRun, main
from jobs.core.serving import find_model, newest_promoted_model
from schemas import MODELS


class Options(DatedOptions):
    """Promote a candidate, unless it is worse than the model that is promoted now."""

    model_version: str | None = Field(None, description="The candidate; default: the model trained last.")
    measure: str = Field("recall_at_10", description="Metric that decides, as evaluate names it.")
    tolerance: float = Field(0.01, ge=0, le=1, description="How far below the champion still counts as not worse.")
    reason: str | None = Field(None, description="Promote in any case, for this reason, which is recorded.")


def refusal(challenger: Row, champion: Row | None, *, measure: str, tolerance: float) -> str | None:
    """Why the challenger may not be promoted; None when it may.

    Figures are compared only when both come from the same judged queries, which the metric `judged_queries` counts.
    """
    figure = challenger["metrics"].get(measure)
    if figure is None:
        known = ", ".join(sorted(challenger["metrics"])) or "none"
        return f"{challenger['model_version']} has no {measure} (it has {known}): run `training evaluate` first"
    if champion is None or champion["metrics"].get("judged_queries") != challenger["metrics"].get("judged_queries"):
        return None
    best = champion["metrics"].get(measure, 0.0)
    if figure < best - tolerance:
        return (
            f"{challenger['model_version']} has {measure} {figure:.4f}, the promoted {champion['model_version']} "
            f"{best:.4f}; at most {tolerance} less is accepted: train further, or give --reason"
        )
    return None


def run(job: JobRun, options: Options) -> None:
    """Compare with the champion, then change one row."""
    lake = job.lake
    models = lake.read(MODELS)
    challenger = find_model(lake, options.model_version)
    version = challenger["model_version"]
    if challenger["stage"] == "promoted":
        job.unchanged()
        job.note(f"{version} is promoted already")
        return
    refused = refusal(challenger, newest_promoted_model(lake), measure=options.measure, tolerance=options.tolerance)
    if refused and not options.reason:
        raise JobError(refused)
    promoted = models.where(F.col("model_version") == version).withColumns(
        {"stage": F.lit("promoted"), "promoted_at": F.lit(dt.datetime.now(dt.UTC))}
    )
    lake.merge(MODELS, promoted)
    job.count(rows_out=1)
    job.note(f"{version} is promoted" + (f" although {refused}; reason: {options.reason}" if refused else ""))


if __name__ == "__main__":
    main(run, Options)
