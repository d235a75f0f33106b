"""Write the night's page: what came in and what changed, how gates judged what was made of it, what shoppers would see.

Reads:  job_runs, items, item_images, rejected_rows, item_embeddings, embedding_failures, query_embeddings,
        index_builds, models, the published build and the one before it
Writes: reports/<run_id>/index.html, and the figures for Prometheus where a file is named
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

from markupsafe import Markup
from pydantic import Field
from pyspark.sql import DataFrame

from jobs.core.frames import at_once
from jobs.core.job import DatedOptions, JobRun, JobSkipped, main
from jobs.core.lake import Lake
from jobs.core.pages import render_page, thumbnails, write_page
from jobs.core.plots import weight_histogram, weight_spreads
from jobs.core.serving import serving_model
from jobs.index.builds import INDEXES
from jobs.index.manifest import BuildIntegrityError
from jobs.index.searcher import Searcher
from jobs.operations import plots
from jobs.operations.categories import CategorySlice, slice_by_category
from jobs.operations.changes import BuildChanges, Moves, compare_builds, moved_answers
from jobs.operations.contact_sheet import Answer, answer_queries, sample_queries, vectors_under
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
    build_before,
    build_of_night,
    catalog_changes,
    past_nights,
    published_build,
    refused_by_category,
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
_SLICES = 12
_NIGHTS = 30
_EXAMPLES = 10  # a row of a wide window


class Options(DatedOptions):
    """Write the page of one night; also of a night that failed or was skipped."""

    sample_queries: int = Field(6, ge=0, le=12, description="Queries on the contact sheet.")
    results_per_query: int = Field(10, ge=1, le=50, description="Results of each of them.")
    metrics_file: Path | None = Field(
        None, description="File of this machine for node-exporter's textfile collector; a later night's is left alone."
    )


@dataclass(frozen=True)
class Page:
    """Everything that the template shows; `no_vectors`, `no_changes` and `no_answers` say why a part is empty.

    Args:
        before: The build that was published before the one that serves now.
        moves: Sample query to how its answer differs from the build's before; those that were compared.
        photos: content_sha256 to a data URI, of the shown items' readable photos.
    """

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
    categories: Sequence[CategorySlice]
    before: Build | None
    changes: BuildChanges | None
    no_changes: str
    moves: Mapping[str, Moves]
    answers: Sequence[Answer]
    no_answers: str
    photos: Mapping[str, str]
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

    @cached_property
    def plots(self) -> Mapping[str, Markup]:
        """The plots for which there is data, by name."""
        drawn = {}
        if self.steps:
            drawn["timings"] = plots.step_timings(self.steps)
        if self.rejections:
            drawn["rejections"] = plots.rejection_bars(self.rejections)
        if self.bounded_gates:
            drawn["gates"] = plots.gate_allowances(self.bounded_gates)
        if self.vectors and any(self.vectors.histogram):
            drawn["weights"] = weight_histogram(self.vectors.histogram)
            drawn["categories"] = weight_spreads(self.vectors.categories)
        return drawn

    @cached_property
    def trends(self) -> Mapping[str, Mapping[str, Markup]]:
        """Plots over the nights, by heading and name; none of a single night."""
        if len(self.past) < 2:
            return {}
        return {"Figures": plots.night_trends(self.past), "Seconds by step": plots.step_trends(self.past)}


def render(page: Page) -> str:
    """The page as one self-contained HTML document; whatever comes from data is escaped."""
    return render_page("jobs.operations", "report.html.j2", page=page)


def gather(job: JobRun, options: Options) -> Page:
    """Read the night from the lake."""
    lake, date = job.lake, options.date
    items, builds = lake.read(ITEMS), lake.read(INDEX_BUILDS)
    runs, rejected, queries = lake.read(JOB_RUNS), lake.read(REJECTED_ROWS), lake.read(QUERY_EMBEDDINGS)
    with job.stage("tables"):
        steps, setbacks, past, build, published, before, catalog, rejections, refused = at_once(
            partial(steps_of_night, runs, date),
            partial(setbacks_of_night, runs, date),
            partial(past_nights, runs, builds, date, nights=_NIGHTS),
            partial(build_of_night, builds, date),
            partial(published_build, builds),
            partial(build_before, builds),
            partial(catalog_changes, items, date),
            partial(rejections_of_night, rejected, date),
            partial(refused_by_category, rejected, date),
        )
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
        now, no_answers = open_build(lake, published, "No build is published, so there is nothing to search.")
        answers = []
        if now is not None:
            answers, no_answers = contact_sheet(queries, now, options)
    with job.stage("changes"):
        earlier, no_changes = open_build(lake, before, "No build was published before, so there is nothing to compare.")
        changes, moves = None, {}
        if now is not None and earlier is not None:
            changes = compare_builds(earlier, now, examples=_EXAMPLES)
            moves = moves_since(queries, answers, earlier, now, options)
    with job.stage("photos"):
        photos = thumbnails(lake.read(ITEM_IMAGES), photos_shown(answers, moves, changes))
    return Page(
        date=date,
        run_id=job.run_id,
        lake=lake.root,
        verdict=judge(steps, build, published, date=date),
        steps=steps,
        setbacks=setbacks,
        catalog=CatalogChange.together(catalog.values()),
        rejections=rejections,
        vectors=vectors,
        no_vectors=no_vectors,
        build=build,
        published=published,
        categories=slice_by_category(
            catalog,
            photos=vectors.photos if vectors else {},
            refused=refused,
            drift=changes.drift if changes else {},
            largest=_SLICES,
        ),
        before=before,
        changes=changes,
        no_changes=no_changes or no_answers,
        moves=moves,
        answers=answers,
        no_answers=no_answers,
        photos=photos,
        past=past,
    )


def open_build(lake: Lake, build: Build | None, without: str) -> tuple[Searcher | None, str]:
    """A build opened for search, and why it is not: `without` where there is none."""
    if build is None:
        return None, without
    if build.is_removed:
        return None, f"{build.build_id} is gone: its folder went with age, or with an item that was taken down."
    try:
        return Searcher.open(lake.uri(INDEXES, build.build_id)), ""
    except BuildIntegrityError as error:
        return None, f"{build.build_id} cannot be read: {error}."


def contact_sheet(queries: DataFrame, searcher: Searcher, options: Options) -> tuple[list[Answer], str]:
    """Sample queries with the published build's answers, and why there are none."""
    if not options.sample_queries:
        return [], "No sample query was asked for."
    model_version = searcher.manifest.model_version
    sample = sample_queries(queries, model_version=model_version, count=options.sample_queries)
    if not sample:
        return [], f"query_embeddings holds no query of model {model_version}; embedding queries writes them."
    return answer_queries(sample, searcher, results_per_query=options.results_per_query), ""


def moves_since(
    queries: DataFrame, answers: Sequence[Answer], before: Searcher, after: Searcher, options: Options
) -> dict[str, Moves]:
    """How the contact sheet differs from what an earlier build answers, maybe one of another model."""
    sample, earlier_model = [answer.query for answer in answers], before.manifest.model_version
    if earlier_model == after.manifest.model_version:
        vectors = {query.query: query.vector for query in sample}
    else:
        vectors = vectors_under(queries, sample, model_version=earlier_model)
    return moved_answers(answers, before, after, vectors=vectors, results_per_query=options.results_per_query)


def photos_shown(answers: Sequence[Answer], moves: Mapping[str, Moves], changes: BuildChanges | None) -> set[str]:
    """content_sha256 of the photos of all items on the page."""
    items = [result.item for answer in answers for result in answer.results]
    items += [lost.item for of_query in moves.values() for lost in of_query.lost]
    for kind in changes.kinds.values() if changes else ():
        items += chain.from_iterable((example.now, example.was) for example in kind.examples)
    return {item.image_sha256 for item in items if item is not None and item.image_sha256 is not None}


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
