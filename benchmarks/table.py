"""The ablation table: every cell against the full model, with intervals over queries and seeds, as Markdown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.cells import CELLS, FULL, RIVALS
from benchmarks.results import MEASURES, SLICES, Results, Run
from jobs.training.ablations import AblatedCell, Ablations, Change
from jobs.training.slices import ALL

_RESAMPLES = 10_000
_PLACES = {cell.name: place for place, cell in enumerate(CELLS)}


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


def shared_seeds(results: Results, cell: str) -> list[int]:
    """The seeds that both the cell and the full model have, in order."""
    return [run.seed for run in results.of_cell(cell) if results.holds(FULL, run.seed)]


def compare_cell(results: Results, cell: str, *, level: float) -> dict[str, Change]:
    """Measure to change, paired by query and seed over the seeds that the cell and the full model share.

    Raises:
        ValueError: the two were measured on other queries.
    """
    seeds = shared_seeds(results, cell)
    ours, fulls = ([results.by_query(name, seed) for seed in seeds] for name in (cell, FULL))
    if any(query_ids != ours[0][0] for query_ids, _ in (*ours, *fulls)):
        raise ValueError(f"{cell} and {FULL} were measured on other queries: begin a new folder with --results.")
    compared = {}
    for measure in MEASURES:
        values = np.stack([by_measure[measure] for _, by_measure in ours])
        differences = values - np.stack([by_measure[measure] for _, by_measure in fulls])
        ends = interval_over_queries_and_seeds(differences, level=level)
        mean, change = float(values.mean()), float(differences.mean())
        compared[measure] = Change(mean=mean, change=change, lower=ends[0], upper=ends[1])
    return compared


def summarize(results: Results, *, command: str) -> Ablations:
    """Every cell that shares a seed with the full model, against it.

    First the rivals; then what needs no training, and the cells as declared.  Intervals are joint in each part.

    Raises:
        ValueError: the full model is not among the runs, so there is nothing to compare with.
    """
    full = results.of_cell(FULL)
    if not full:
        raise ValueError(f"no run of the cell {FULL!r} is finished: nothing can be compared with it.")
    shared = dict.fromkeys(cell for cell, seed in results.runs if cell != FULL and results.holds(FULL, seed))
    rivals = [name for name in RIVALS if name in shared]
    others = sorted((name for name in shared if name not in RIVALS), key=lambda name: _PLACES.get(name, -1))
    return Ablations(
        training_set_id=results.asked["training_set"],
        command=command,
        device=full[0].device,
        queries=len(results.by_query(FULL, full[0].seed)[0]),
        full={measure: np.mean([run.figures[f"{measure} [{ALL}]"] for run in full]) for measure in MEASURES},
        full_seeds=len(full),
        cells=[
            AblatedCell(
                name=name,
                seeds=len(shared_seeds(results, name)),
                changes=compare_cell(results, name, level=1 - 0.05 / len(part)),
            )
            for part in (rivals, others)
            for name in part
        ],
    )


def ablation_table(results: Results, summary: Ablations) -> str:
    """Two tables in Markdown, and what they rest on."""
    changes = [["", "seeds", *MEASURES]]
    changes.append([FULL, str(summary.full_seeds), *(f"{summary.full[measure]:.3f}" for measure in MEASURES)])
    changes += [[cell.name, str(cell.seeds), *map(_told, cell.changes.values())] for cell in summary.cells]
    by_cell = {name: results.of_cell(name) for name in (FULL, *(cell.name for cell in summary.cells))}
    slices = [part for part in SLICES if part != ALL and f"recall_at_10 [{part}]" in by_cell[FULL][0].figures]
    details = [["recall@10", "half A", "half B", *slices, "held out", "parameters", "products/s"]]
    for cell, runs in by_cell.items():
        details.append([cell, *_halves(results, cell, runs), *(_mean(runs, f"recall_at_10 [{s}]") for s in slices)])
        details[-1] += _training(runs)
    notes = [f"{run.cell}, seed {run.seed}: {run.note}" for runs in by_cell.values() for run in runs if run.note]
    return "\n\n".join(
        [
            f"`{summary.command}` on {summary.device}; {summary.queries} judged queries over the whole catalog, ranked "
            f"{len(results.runs)} times for this table. In brackets the change from `{FULL}` and its interval, paired "
            f"by query and seed; 95 % for what `{FULL}` has to beat, as laid down beforehand ({', '.join(RIVALS)}), "
            "together, and 95 % for all other rows of a measure together (Bonferroni); bold where it leaves out 0. "
            "With few seeds such an interval is too narrow for what another seed would give.",
            markdown_table(changes),
            markdown_table(details),
            *notes,
        ]
    )


def _told(change: Change) -> str:
    figure = f"{change.mean:.3f} ({change.change:+.3f}, {change.lower:+.3f} to {change.upper:+.3f})"
    return f"**{figure}**" if change.leaves_out_zero else figure


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
    """Write `summary.json` beside the runs, and replace what stands between the two markers of a Markdown file.

    Raises:
        ValueError: the file lacks a marker, or the full model is not among the runs.
    """
    begin, end = markers(bound)
    text = document.read_text("utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(
            f"{document}: expected one line {begin} and, below it, one line {end}; put them where the table goes."
        )
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    summary = summarize(results, command=command)
    (results.folder / "summary.json").write_text(summary.model_dump_json(indent=1) + "\n", "utf-8")
    document.write_text(f"{before}{begin}\n{ablation_table(results, summary)}\n{end}{after}", "utf-8")
