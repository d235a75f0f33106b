"""Measure a model on judged queries over the full catalog, as a whole and slice by slice.

Reads:  models, items, item_images, query_item_pairs, training_sets, job_runs; judged queries and judgments where they
        are configured
Writes: models (metrics), judged_results, photo_weights
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field
from pyspark.sql import Row
from pyspark.sql import functions as F
from rich.table import Table

from jobs.core.job import JobRun, main
from jobs.core.serving import find_model, newest_promoted_model
from jobs.training.judged import JudgedSet, MeasuringOptions, load_judged_set
from jobs.training.ranking import embed_catalog, sample_of
from jobs.training.results import KEPT_RESULTS, keep_results, results_of
from jobs.training.slices import ALL, SHOWN_MEASURES, Slice
from models.retrieval_metrics import bootstrap_interval
from models.vector_space import effective_rank, hubness
from schemas import ITEMS, MODELS, PHOTO_WEIGHTS

# Items whose weights are kept.
_SAMPLED_ITEMS = 20_000


class Options(MeasuringOptions):
    """Measure a model on judged queries over the full catalog; without any, on the training set's held-out queries."""

    model_version: str | None = Field(None, description="The model; default: the one trained last.")


def measure_slices(slices: Sequence[Slice], ranked: Sequence[Sequence[str]]) -> dict[str, dict[str, float]]:
    """Slice name to its figures, `queries` (how many) among them; `all` has the ends of 95 % intervals too."""
    measured = {}
    for part in slices:
        by_query = part.measure(ranked)
        figures = {name: float(values.mean()) for name, values in by_query.items()}
        if part.name == ALL:
            for name in SHOWN_MEASURES:
                figures[f"{name}_lower"], figures[f"{name}_upper"] = bootstrap_interval(by_query[name])
        measured[part.name] = {"queries": float(len(part.positions)), **figures}
    return measured


def measure_space(items: int, moment: np.ndarray, found: Sequence[Sequence[str]]) -> dict[str, float]:
    """Figures in which a collapse of the catalog's vectors shows.

    Args:
        items: How many vectors there are.
        moment: (dim, dim), the sum of x x^T over them.
        found: The first results of each judged query.
    """
    skewness, never_found = hubness(found, items=items)
    figures = {"effective_rank": effective_rank(moment), "hubness_at_10": skewness, "never_found_share": never_found}
    # Tasks' sums are added in any order: what that changes in the last digits is no change of the model's.
    return {name: round(value, 6) for name, value in figures.items()}


def slices_table(title: str, measured: dict[str, dict[str, float]]) -> Table:
    """The figures as a person reads them."""
    table = Table(title=title, title_justify="left")
    for column in ("slice", "queries", *SHOWN_MEASURES):
        table.add_column(column, justify="left" if column == "slice" else "right", overflow="fold")
    for name, figures in measured.items():
        table.add_row(
            name, f"{figures['queries']:,.0f}", *(_with_interval(figures, figure) for figure in SHOWN_MEASURES)
        )
    return table


def _with_interval(figures: dict[str, float], name: str) -> str:
    text = f"{figures[name]:.3f}"
    if f"{name}_lower" in figures:
        text += f" ({figures[f'{name}_lower']:.3f} to {figures[f'{name}_upper']:.3f})"
    return text


def run(job: JobRun, options: Options) -> None:
    """Measure the model; and the promoted one, which it has to beat, unless that is measured for this date already."""
    model = find_model(job.lake, options.model_version)
    judged = load_judged_set(job, options, training_set_id=model["training_set_id"])
    measured, changed = measure_model(job, options, model, judged)
    for name, figures in measured.items():
        for figure, value in figures.items():
            job.figure(figure if name == ALL else f"{figure} [{name}]", value)
    champion = newest_promoted_model(job.lake)
    if champion is not None and not _is_measured(job, options, champion, judged):
        changed |= measure_model(job, options, champion, judged)[1]
    job.count(rows_in=len(judged.queries), rows_out=len(judged.queries))
    if not changed:
        job.unchanged()


def measure_model(
    job: JobRun, options: Options, model: Row, judged: JudgedSet
) -> tuple[dict[str, dict[str, float]], bool]:
    """Rank the catalog for every judged query, write what comes of it, and print the slices.

    Returns:
        Slice to figures, and whether any result differs from what was known.
    """
    version = model["model_version"]
    with job.stage("embed_and_rank"), embed_catalog(job, version, batch_size=options.batch_size) as catalog:
        ranked = catalog.rank(judged.texts)
        items, moment = catalog.moments()
        weights = sample_of(catalog.items, count=_SAMPLED_ITEMS, of=items).drop("embedding")
        weights = weights.withColumn("model_version", F.lit(version))
        job.lake.replace(PHOTO_WEIGHTS, weights, F.col("model_version") == version)
    without = job.lake.read(ITEMS).where("is_active").count() - items
    if without:
        job.note(f"{without:,} active items have no vector under {version}: no query finds them")
    measured = measure_slices(judged.slices, ranked)
    found = [ids[:KEPT_RESULTS] for ids in ranked[: len(judged.queries)]]
    measured[ALL] |= measure_space(items, moment, found)
    overall = {name: value for name, value in measured[ALL].items() if name != "queries"}
    overall["judged_queries"] = float(len(judged.queries))
    row = {**model.asDict(), "metrics": {**model["metrics"], **overall}}
    with job.stage("record"):
        changed = keep_results(job, version, judged, options.date, ranked)
        changed |= job.lake.merge(MODELS, job.spark.createDataFrame([row], MODELS.schema)).changed > 0
    job.console.print(slices_table(f"{version} on judged queries", measured), soft_wrap=False)
    return measured, changed


def _is_measured(job: JobRun, options: Options, model: Row, judged: JudgedSet) -> bool:
    """Whether the model was measured on these queries for this date, in all their slices and with these answers.

    Answers differ when judgments, or the catalog that they are looked for in, were taken in anew since.
    """
    results = results_of(job.lake, model["model_version"], judged.digest, options.date)
    known = {
        (row["slice"], row["query_id"], frozenset(row["relevant"]))
        for row in results.select("slice", "query_id", "relevant").collect()
    }
    asked = {
        (part.name, judged.meant[position].query_id, frozenset(relevant))
        for part in judged.slices
        for position, relevant in zip(part.positions, part.relevant, strict=True)
    }
    return asked <= known


if __name__ == "__main__":
    main(run, Options)
