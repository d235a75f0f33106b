"""Write the night's page: what came in, what was made of it, how the gates judged it, and what shoppers would see.

Reads:  job_runs, items, item_images, rejected_rows, item_embeddings, embedding_failures, query_embeddings,
        index_builds, models, the published index
Writes: reports/<run_id>/index.html, and the figures for Prometheus where a file is named
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from pydantic import Field

from jobs.core.job import DatedOptions, JobRun, JobSkipped, main
from jobs.core.lake import Lake
from jobs.core.pages import render_page, write_page
from jobs.core.plots import weight_histogram, weight_spreads
from jobs.core.serving import serving_model
from jobs.index.searcher import Searcher
from jobs.operations import plots
from jobs.operations.contact_sheet import Answer, answer_queries, sample_queries
from jobs.operations.metrics import write_metrics
from jobs.operations.night import (
    Build,
    CatalogChange,
    Gate,
    PastNight,
    Rejection,
    Setback,
    Step,
    Vectors,
    build_of_night,
    catalog_change,
    past_nights,
    published_build,
    rejections_of_night,
    setbacks_of_night,
    steps_of_night,
    vectors_of_night,
)
from jobs.operations.verdict import Verdict, judge
from schemas import (
    EMBEDDING_FAILURES,
    INDEX_BUILDS,
    ITEM_EMBEDDINGS,
    ITEM_IMAGES,
    ITEMS,
    JOB_RUNS,
    QUERY_EMBEDDINGS,
    REJECTED_ROWS,
)

_CATEGORIES = 14  # what a screen shows beside the histogram
_NIGHTS = 30


class Options(DatedOptions):
    """Write the page of one night; also of a night that failed or was skipped."""

    sample_queries: int = Field(6, ge=0, le=12, description="Queries on the contact sheet.")
    results_per_query: int = Field(8, ge=1, le=50, description="Results of each of them.")
    metrics_file: Path | None = Field(
        None, description="File of this machine for node-exporter's textfile collector; a later night's is left alone."
    )


@dataclass(frozen=True)
class Page:
    """Everything that the template shows; `no_vectors` and `no_answers` say why a part is empty."""

    date: dt.date
    run_id: str
    lake: str
    verdict: Verdict
    steps: Sequence[Step]
    setbacks: Sequence[Setback]
    catalog: CatalogChange
    rejections: Sequence[Rejection]
    vectors: Vectors | None
    no_vectors: str
    build: Build | None
    published: Build | None
    answers: Sequence[Answer]
    no_answers: str
    past: Sequence[PastNight]

    @property
    def embedded(self) -> int | None:
        """Items that the night embedded; None when that step left no count."""
        return next((step.rows_out for step in self.steps if step.job == "embedding items"), None)

    @property
    def rows_rejected(self) -> int:
        """Rows that ingests refused; those that they flagged and took are not among them."""
        return sum(rejection.rows for rejection in self.rejections if not rejection.accepted)

    @property
    def seconds(self) -> float:
        """Wall seconds of all steps together."""
        return sum(step.wall_seconds for step in self.steps)

    @property
    def startup_seconds(self) -> float:
        """How much of it was the start of processes."""
        return sum(step.startup_seconds for step in self.steps)

    @property
    def bounded_gates(self) -> Sequence[Gate]:
        """Gates of the build of which it can be told how near to their bound they are."""
        gates = (self.build and self.build.gates) or ()
        return [gate for gate in gates if gate.used is not None]

    @property
    def plots(self) -> Mapping[str, Markup]:
        """The plots for which there is data, by name."""
        drawn = {}
        if self.steps:
            drawn["timings"] = plots.step_timings(self.steps)
        if len(self.past) > 1:
            drawn["trends"] = plots.night_trends(self.past)
        if self.rejections:
            drawn["rejections"] = plots.rejection_bars(self.rejections)
        if self.bounded_gates:
            drawn["gates"] = plots.gate_allowances(self.bounded_gates)
        if self.vectors and any(self.vectors.histogram):
            drawn["weights"] = weight_histogram(self.vectors.histogram)
            drawn["categories"] = weight_spreads(self.vectors.categories)
        return drawn


def render(page: Page) -> str:
    """The page as one self-contained HTML document; whatever comes from data is escaped."""
    return render_page("jobs.operations", "report.html.j2", page=page)


def gather(job: JobRun, options: Options) -> Page:
    """Read the night from the lake."""
    lake, date = job.lake, options.date
    items, builds = lake.read(ITEMS), lake.read(INDEX_BUILDS)
    with job.stage("tables"):
        steps = steps_of_night(lake.read(JOB_RUNS), date)
        setbacks = setbacks_of_night(lake.read(JOB_RUNS), date)
        build, published = build_of_night(builds, date), published_build(builds)
        catalog = catalog_change(items, date)
        rejections = rejections_of_night(lake.read(REJECTED_ROWS), date)
        past = past_nights(lake.read(JOB_RUNS), builds, date, nights=_NIGHTS)
    with job.stage("vectors"):
        vectors, no_vectors = None, "The serving model has no vectors yet."
        try:
            vectors = vectors_of_night(
                items,
                lake.read(ITEM_EMBEDDINGS),
                lake.read(EMBEDDING_FAILURES),
                model_version=serving_model(lake),
                date=date,
                categories=_CATEGORIES,
            )
        except JobSkipped as skipped:
            no_vectors = f"There are no vectors: {skipped}."
    with job.stage("search"):
        sheet, no_answers = contact_sheet(lake, published, options)
    return Page(
        date=date,
        run_id=job.run_id,
        lake=lake.root,
        verdict=judge(steps, build, published, date=date),
        steps=steps,
        setbacks=setbacks,
        catalog=catalog,
        rejections=rejections,
        vectors=vectors,
        no_vectors=no_vectors,
        build=build,
        published=published,
        answers=sheet,
        no_answers=no_answers,
        past=past,
    )


def contact_sheet(lake: Lake, published: Build | None, options: Options) -> tuple[list[Answer], str]:
    """Sample queries with the published build's answers, and why there are none."""
    if published is None:
        return [], "No build is published, so there is nothing to search."
    model_version = published.model_version
    queries = sample_queries(lake.read(QUERY_EMBEDDINGS), model_version=model_version, count=options.sample_queries)
    if not queries:
        return [], f"query_embeddings holds no query of model {model_version}; embedding queries writes them."
    searcher = Searcher.open(lake.uri("indexes", published.build_id))
    results = answer_queries(
        queries, searcher=searcher, images=lake.read(ITEM_IMAGES), results_per_query=options.results_per_query
    )
    return results, ""


def run(job: JobRun, options: Options) -> None:
    """Gather the night, draw the page, put it into the lake."""
    page = gather(job, options)
    with job.stage("render"):
        html = render(page)
    with job.stage("write"):
        place = write_page(job.lake, job.run_id, html)
        if options.metrics_file is not None and not page.catalog.moved_on:
            write_metrics(page, options.metrics_file)
    job.figure("bytes", len(html.encode("utf-8")))
    job.note(f"{page.verdict.light}: {page.verdict.headline}")
    job.note(f"report: {place}")


if __name__ == "__main__":
    main(run, Options)
