"""The plots of the night's page that no other page has."""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jobs.core.plots import COLUMN_WIDTH, INK, PAGE_WIDTH, REFUSED, REST, WORK, horizontal, svg, themed
from jobs.index.gates import CEILINGS
from jobs.operations.night import CHAIN, Gate, PastNight, Rejection, Step

# How far a gate's bar reaches at most, in bounds: one far beyond its bound would flatten all others.
_FARTHEST = 1.5
# Inches of a plot that stands beside several others.
_SMALL_WIDTH = 2.1


def gate_allowances(gates: Sequence[Gate]) -> Markup:
    """How much of what its bound allows each gate takes up, one bar each, the nearest to its bound first."""
    nearest_first = sorted(gates, key=_reach, reverse=True)
    names = [f"{g.gate}  {g.figure:.4g} ({'≤' if g.gate in CEILINGS else '≥'} {g.bound:.4g})" for g in nearest_first]
    colours = [WORK if gate.passed else REFUSED if gate.blocking else REST for gate in nearest_first]
    with themed():
        figure, axes = horizontal(PAGE_WIDTH, len(names), below=0.4)
        axes.barh(names, [_reach(gate) for gate in nearest_first], color=colours, height=0.62)
        axes.axvline(1, color=INK, lw=1)
        axes.set_xlim(0, _FARTHEST)
        axes.set_xticks([0, 1], ["best", "bound"])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        return svg(figure, "gates", "How near each gate is to its bound")


def _reach(gate: Gate) -> float:
    return float(np.clip(np.nan_to_num(gate.used, nan=_FARTHEST), 0, _FARTHEST))


def rejection_bars(rejections: Sequence[Rejection]) -> Markup:
    """Recorded rows by reason, one bar each; grey are those that were accepted all the same."""
    names = [f"{r.reason} ({r.source})" for r in rejections]
    colours = [REST if r.accepted else REFUSED for r in rejections]
    with themed():
        figure, axes = horizontal(COLUMN_WIDTH, len(names), below=0.1)
        bars = axes.barh(names, [r.rows for r in rejections], color=colours, height=0.62)
        axes.bar_label(bars, [f"{r.rows:,}" for r in rejections], padding=4, color=INK)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.12)
        return svg(figure, "rejections", "Rejected rows by reason")


def night_trends(nights: Sequence[PastNight]) -> dict[str, Markup]:
    """A small plot a figure over the nights, by the figure's name; orange are nights of which a job failed."""
    figures = {
        "items embedded": [night.embedded for night in nights],
        "rows refused": [night.refused for night in nights],
        "minutes of work": [sum(night.seconds.values()) / 60 for night in nights],
        "recall@10 of the index": [night.recall_at_10 for night in nights],
        "drift": [night.drift for night in nights],
    }
    dates = [night.date for night in nights]
    colours = [REFUSED if night.failed else WORK for night in nights]
    drawn = {}
    for number, (name, values) in enumerate(figures.items()):
        with _over_nights(dates) as (figure, axes):
            axes.scatter(dates, _heights(values), s=14, c=colours)
            axes.margins(y=0.2)
            drawn[name] = svg(figure, f"trend-{number}", _told(name, values))
    return drawn


def step_trends(nights: Sequence[PastNight]) -> dict[str, Markup]:
    """A small plot of each job's wall seconds over the nights; orange are runs that failed."""
    dates = [night.date for night in nights]
    drawn = {}
    for number, job in enumerate(CHAIN):
        seconds = [night.seconds.get(job) for night in nights]
        colours = [REFUSED if job in night.failed else WORK for night in nights]
        if any(seconds):
            with _over_nights(dates) as (figure, axes):
                axes.bar(dates, _heights(seconds), color=colours, width=0.7)
                drawn[job] = svg(figure, f"step-{number}", _told(f"seconds of {job}", seconds))
    return drawn


@contextmanager
def _over_nights(dates: Sequence[dt.date]) -> Iterator[tuple[Figure, Axes]]:
    """A small empty plot over dates."""
    first, last, a_day = dates[0], dates[-1], dt.timedelta(days=1)
    with themed():
        figure = Figure(figsize=(_SMALL_WIDTH, 1.25), layout="constrained")
        axes = figure.subplots()
        axes.set_xlim(first - a_day, last + a_day)
        axes.set_xticks([first, last], [f"{day.day} {day:%b}" for day in (first, last)])
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_formatter("{x:,.6g}")
        axes.grid(axis="x", visible=False)
        yield figure, axes


def _heights(values: Sequence[float | None]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def _told(name: str, values: Sequence[float | None]) -> str:
    """What the plot shows, for whoever does not see it."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    if not known:
        return f"{name}: not measured"
    nights = "1 night" if len(known) == 1 else f"{len(known)} nights"
    last, least, most = (f"{value:,.6g}" for value in (known[-1], min(known), max(known)))
    return f"{name}: {last} at last, {least} to {most} over {nights}"


def step_timings(steps: Sequence[Step]) -> Markup:
    """Wall seconds of every step, one bar each: the start of its process, then its work."""
    names = [step.job for step in steps]
    startup = [step.startup_seconds for step in steps]
    work = [step.wall_seconds - step.startup_seconds for step in steps]
    with themed():
        figure, axes = horizontal(PAGE_WIDTH, len(steps), below=0.75)
        axes.barh(names, startup, color=REST, height=0.62, label="process start-up")
        bars = axes.barh(names, work, left=startup, color=WORK, height=0.62, label="work")
        axes.bar_label(bars, [f"{step.wall_seconds:,.1f} s" for step in steps], padding=4, color=INK)
        figure.legend(loc="outside lower left", ncols=2, handlelength=1, columnspacing=1.4)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("seconds")
        return svg(figure, "timings", "Seconds of each step, process start-up apart")
