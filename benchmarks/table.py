"""The ablation table: every cell against the full model, with intervals over queries and seeds, as Markdown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.cells import FULL
from benchmarks.results import MEASURES, SLICES, Results, Run
from jobs.training.slices import ALL

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Change:
    """A cell's mean of a measure, and what it is above the full model's, with the ends of an interval."""

    mean: float
    change: float
    lower: float
    upper: float

    def __str__(self) -> str:
        figure = f"{self.mean:.3f} ({self.change:+.3f}, {self.lower:+.3f} to {self.upper:+.3f})"
        return f"**{figure}**" if self.lower > 0 or self.upper < 0 else figure


def interval_over_queries_and_seeds(differences: np.ndarray, *, level: float) -> tuple[float, float]:
    """Percentile-bootstrap interval of the mean of (seeds, queries) differences, both drawn anew with replacement.

    With one seed it is an interval over queries alone; with few it is too narrow for what another seed would give.
    The same differences always give the same.
    """
    random = np.random.default_rng(0)
    seeds, queries = differences.shape
    # How often each seed, and each query, is drawn.
    drawn_seeds, drawn_queries = (
        random.multinomial(n, np.full(n, 1 / n), size=_RESAMPLES) / n for n in (seeds, queries)
    )
    means = ((drawn_seeds @ differences) * drawn_queries).sum(axis=1)
    lower, upper = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)


def half_of(query_id: str) -> str:
    """A or B: two halves of the judged queries, so that what one half suggested can be checked on the other."""
    return "AB"[int(hashlib.sha256(query_id.encode()).hexdigest()[0], 16) % 2]


def compare_cell(results: Results, cell: str, *, level: float) -> dict[str, Change]:
    """Measure to change, paired by query and seed over the seeds that the cell and the full model both have."""
    seeds = sorted({seed for name, seed in results.runs if name == cell and results.holds(FULL, seed)})
    ours, fulls = ([results.by_query(name, seed)[1] for seed in seeds] for name in (cell, FULL))
    compared = {}
    for measure in MEASURES:
        values = np.stack([of_seed[measure] for of_seed in ours])
        differences = values - np.stack([of_seed[measure] for of_seed in fulls])
        ends = interval_over_queries_and_seeds(differences, level=level)
        compared[measure] = Change(float(values.mean()), float(differences.mean()), *ends)
    return compared


def ablation_table(results: Results, *, command: str) -> str:
    """Two tables in Markdown, and what they rest on.

    Raises:
        ValueError: the full model is not among the runs, so there is nothing to compare with.
    """
    by_cell: dict[str, list[Run]] = {}
    for (cell, _), run in sorted(results.runs.items(), key=lambda entry: entry[0][1]):
        by_cell.setdefault(cell, []).append(run)
    full = by_cell.pop(FULL, None)
    if full is None:
        raise ValueError(f"no run of the cell {FULL!r} is finished: nothing can be compared with it.")
    # A cell that shares no seed with the full model has nothing to be paired with yet.
    full_seeds = {run.seed for run in full}
    by_cell = {cell: runs for cell, runs in by_cell.items() if full_seeds & {run.seed for run in runs}}
    level = 1 - 0.05 / max(1, len(by_cell))
    changes = [["", "seeds", *MEASURES]]
    changes.append([FULL, str(len(full)), *(_mean(full, f"{measure} [{ALL}]") for measure in MEASURES)])
    for cell, runs in by_cell.items():
        compared = compare_cell(results, cell, level=level)
        changes.append([cell, str(len(runs)), *(str(compared[measure]) for measure in MEASURES)])
    slices = [part for part in SLICES if part != ALL and f"recall_at_10 [{part}]" in full[0].figures]
    details = [["recall@10", "half A", "half B", *slices, "held out", "parameters", "products/s"]]
    for cell, runs in [(FULL, full), *by_cell.items()]:
        details.append([cell, *_halves(results, cell, runs), *(_mean(runs, f"recall_at_10 [{s}]") for s in slices)])
        details[-1] += _training(runs)
    queries, _ = results.by_query(FULL, full[0].seed)
    notes = [f"{run.cell}, seed {run.seed}: {run.note}" for runs in by_cell.values() for run in runs if run.note]
    return "\n\n".join(
        [
            f"`{command}` on {full[0].device}; {len(queries)} judged queries over the whole catalog. In brackets the "
            f"change from `{FULL}` and its interval, paired by query and seed, 95 % for all {len(by_cell)} rows of a "
            "measure together (Bonferroni); bold where it leaves out 0. With few seeds such an interval is too narrow "
            "for what another seed would give.",
            markdown_table(changes),
            markdown_table(details),
            *notes,
        ]
    )


def _mean(runs: Sequence[Run], figure: str) -> str:
    return f"{np.mean([run.figures[figure] for run in runs]):.3f}"


def _halves(results: Results, cell: str, runs: Sequence[Run]) -> list[str]:
    values = np.mean([results.by_query(cell, run.seed)[1]["recall_at_10"] for run in runs], axis=0)
    halves = np.array([half_of(query_id) for query_id in results.by_query(cell, runs[0].seed)[0]])
    return [f"{values[halves == half].mean():.3f}" if (halves == half).any() else "" for half in "AB"]


def _training(runs: Sequence[Run]) -> list[str]:
    if runs[0].parameters is None:
        return ["", "", ""]
    held_out = np.mean([run.held_out["recall_at_10"] for run in runs])
    speed = np.mean([run.products_per_second for run in runs])
    return [f"{held_out:.3f}", f"{runs[0].parameters:,}", f"{speed:,.0f}"]


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first of them the header."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def markers(bound: str) -> tuple[str, str]:
    """The lines of a Markdown file between which the table of equal minutes, or of equal products, stands."""
    return f"<!-- equal {bound}: begin -->", f"<!-- equal {bound}: end -->"


def write_table(document: Path, results: Results, *, bound: str, command: str) -> None:
    """Replace what stands between the two markers of a Markdown file.

    Raises:
        ValueError: the file lacks a marker.
    """
    begin, end = markers(bound)
    text = document.read_text("utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(
            f"{document}: expected one line {begin} and, below it, one line {end}; put them where the table goes."
        )
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    table = ablation_table(results, command=command)
    document.write_text(f"{before}{begin}\n{table}\n{end}{after}", "utf-8")
