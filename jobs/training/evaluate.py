"""Measure a model on judged queries over the full catalog, as a whole and slice by slice.

Reads:  models, items, item_images, query_item_pairs, training_sets; judged queries and judgments where they are
        configured
Writes: models (metrics)
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from rich.table import Table

from jobs.core.job import JobRun, main
from jobs.core.serving import find_model
from jobs.training.judged import MeasuringOptions, load_judged_queries
from jobs.training.ranking import rank_catalog
from jobs.training.slices import ALL, Slice, cut_slices
from models.retrieval_metrics import bootstrap_interval
from schemas import MODELS

_SHOWN = ("recall_at_10", "recall_at_100", "ndcg_at_10")


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
            for name in _SHOWN:
                figures[f"{name}_lower"], figures[f"{name}_upper"] = bootstrap_interval(by_query[name])
        measured[part.name] = {"queries": float(len(part.positions)), **figures}
    return measured


def slices_table(title: str, measured: dict[str, dict[str, float]]) -> Table:
    """The figures as a person reads them."""
    table = Table(title=title, title_justify="left")
    for column in ("slice", "queries", *_SHOWN):
        table.add_column(column, justify="left" if column == "slice" else "right")
    for name, figures in measured.items():
        table.add_row(name, f"{figures['queries']:,.0f}", *(_with_interval(figures, figure) for figure in _SHOWN))
    return table


def _with_interval(figures: dict[str, float], name: str) -> str:
    text = f"{figures[name]:.3f}"
    if f"{name}_lower" in figures:
        text += f" ({figures[f'{name}_lower']:.3f} to {figures[f'{name}_upper']:.3f})"
    return text


def run(job: JobRun, options: Options) -> None:
    """Rank the catalog for every judged query, write the figures beside the model."""
    lake = job.lake
    model = find_model(lake, options.model_version)
    version = model["model_version"]
    queries = load_judged_queries(job, options, training_set_id=model["training_set_id"])
    with job.stage("embed_and_rank"):
        ranked = rank_catalog(job, version, [query.query for query in queries], batch_size=options.batch_size)
    measured = measure_slices(cut_slices(queries), ranked)
    for name, figures in measured.items():
        for figure, value in figures.items():
            job.figure(figure if name == ALL else f"{figure} [{name}]", value)
    overall = {name: value for name, value in measured[ALL].items() if name != "queries"}
    overall["judged_queries"] = float(len(queries))
    row = {**model.asDict(), "metrics": {**model["metrics"], **overall}}
    changed = lake.merge(MODELS, job.spark.createDataFrame([row], MODELS.schema)).changed
    job.count(rows_in=len(queries), rows_out=len(queries))
    job.console.print(slices_table(f"{version} on judged queries", measured), soft_wrap=False)
    if not changed:
        job.unchanged()


if __name__ == "__main__":
    main(run, Options)
