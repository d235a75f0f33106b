"""Compare two models on the same judged queries: slice by slice, and by the queries that one wins from the other.

Reads:  models, items, item_images, query_item_pairs, training_sets, job_runs; judged queries and judgments where they
        are configured
Writes: reports/<run_id>/index.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field
from rich.table import Table

from jobs.core.job import JobError, JobRun, main
from jobs.core.pages import render_page, write_page
from jobs.core.serving import find_model, newest_promoted_model
from jobs.training.gallery import Card, Gallery
from jobs.training.judged import JudgedSet, MeasuringOptions, load_judged_set
from jobs.training.paired import Difference, joint_level
from jobs.training.ranking import embed_catalog
from jobs.training.slices import SHOWN_MEASURES, JudgedQuery, Slice
from models.retrieval_metrics import ndcg_at_k

# Results of a query that the page shows.
_RESULTS = 8


class Options(MeasuringOptions):
    """Compare two models on the same judged queries: slice by slice, and by the queries that one wins."""

    model_version: str | None = Field(None, description="The challenger; default: the model trained last.")
    against: str | None = Field(None, description="The champion; default: the model promoted last.")
    shown_queries: int = Field(8, ge=0, le=50, description="Queries won, and as many lost, that the page shows.")


@dataclass(frozen=True)
class Duel:
    """A query that one model answers better, with both models' first results."""

    query: str
    champion: float
    challenger: float
    champion_results: Sequence[Card]
    challenger_results: Sequence[Card]


def compare_slices(
    slices: Sequence[Slice], champion: Sequence[Sequence[str]], challenger: Sequence[Sequence[str]]
) -> dict[str, dict[str, Difference]]:
    """Slice to measure to difference, with intervals of 95 % for all slices of a measure together."""
    level = joint_level(len(slices))
    compared = {}
    for part in slices:
        before, after = part.measure(champion), part.measure(challenger)
        compared[part.name] = {
            name: Difference.between(before[name], after[name], level=level) for name in SHOWN_MEASURES
        }
    return compared


def widest_gaps(
    queries: Sequence[JudgedQuery],
    champion: Sequence[Sequence[str]],
    challenger: Sequence[Sequence[str]],
    *,
    count: int,
) -> tuple[list[int], list[int]]:
    """Positions of the queries that the challenger wins, and of those that it loses, by nDCG@10, the widest first."""
    relevant = [set(query.relevant) for query in queries]
    gaps = ndcg_at_k(challenger, relevant, 10) - ndcg_at_k(champion, relevant, 10)
    order = np.argsort(-gaps, kind="stable").tolist()
    return [n for n in order if gaps[n] > 0][:count], [n for n in reversed(order) if gaps[n] < 0][:count]


def comparison_table(challenger: str, champion: str, compared: Mapping[str, Mapping[str, Difference]]) -> Table:
    """The differences as a person reads them."""
    table = Table(title=f"{challenger} against {champion}", title_justify="left")
    table.add_column("slice", overflow="fold")
    for measure in SHOWN_MEASURES:
        table.add_column(measure, justify="right")
    for name, by_measure in compared.items():
        table.add_row(name, *(_words(by_measure[measure]) for measure in SHOWN_MEASURES))
    return table


def _words(difference: Difference) -> str:
    mark = {"better": " +", "worse": " -", "open": ""}[difference.verdict]
    return f"{difference.champion:.3f} > {difference.challenger:.3f}{mark}"


def run(job: JobRun, options: Options) -> None:
    """Rank the catalog with both models, and write the page."""
    challenger = find_model(job.lake, options.model_version)
    champion = find_model(job.lake, options.against) if options.against else newest_promoted_model(job.lake)
    if champion is None:
        raise JobError("no model was promoted yet: name one with --against")
    versions = [champion["model_version"], challenger["model_version"]]
    if versions[0] == versions[1]:
        raise JobError(f"{versions[0]} is both challenger and champion: name another with --model-version or --against")
    judged = load_judged_set(job, options, training_set_id=challenger["training_set_id"])
    queries = judged.queries
    before, after = (_rank(job, options, version, judged) for version in versions)
    compared = compare_slices(judged.slices, before, after)
    before, after = before[: len(queries)], after[: len(queries)]  # those with a typo have had their slice
    won, lost = widest_gaps(queries, before, after, count=options.shown_queries)
    with job.stage("page"):
        html = render_page(
            "jobs.training",
            "compare.html.j2",
            date=options.date,
            champion=versions[0],
            challenger=versions[1],
            queries=len(queries),
            judged_run=judged.run,
            measures=SHOWN_MEASURES,
            compared=compared,
            won=_duels(job, queries, before, after, won),
            lost=_duels(job, queries, before, after, lost),
        )
        place = write_page(job.lake, job.run_id, html)
    for name, by_measure in compared.items():
        for measure, difference in by_measure.items():
            job.figure(f"change_of_{measure} [{name}]", difference.change)
    job.count(rows_in=len(queries), rows_out=len(queries))
    job.console.print(comparison_table(versions[1], versions[0], compared), soft_wrap=False)
    job.note(f"page: {place}")


def _rank(job: JobRun, options: Options, version: str, judged: JudgedSet) -> list[list[str]]:
    with job.stage("embed_and_rank"), embed_catalog(job, version, batch_size=options.batch_size) as catalog:
        return catalog.rank(judged.texts)


def _duels(
    job: JobRun,
    queries: Sequence[JudgedQuery],
    before: Sequence[Sequence[str]],
    after: Sequence[Sequence[str]],
    positions: Sequence[int],
) -> list[Duel]:
    gallery = Gallery(
        job.lake, {item_id for n in positions for ranked in (before, after) for item_id in ranked[n][:_RESULTS]}
    )

    def cards(query: JudgedQuery, ranked: Sequence[str]) -> list[Card]:
        return [gallery.result(item_id, query.relevant) for item_id in ranked[:_RESULTS]]

    def score(query: JudgedQuery, ranked: Sequence[str]) -> float:
        return float(ndcg_at_k([ranked], [set(query.relevant)], 10)[0])

    return [
        Duel(
            queries[n].query,
            score(queries[n], before[n]),
            score(queries[n], after[n]),
            cards(queries[n], before[n]),
            cards(queries[n], after[n]),
        )
        for n in positions
    ]


if __name__ == "__main__":
    main(run, Options)
