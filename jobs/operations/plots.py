"""The plots of the night's page that no other page has."""

import datetime as dt
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jobs.core.plots import COLUMN_WIDTH, INK, PAGE_WIDTH, REFUSED, REST, WORK, horizontal, svg, themed
from jobs.index.gates import CEILINGS
from jobs.operations.night import Gate, PastNight, Rejection, Step

# How far a gate's bar reaches at most, in bounds: one far beyond its bound would flatten all others.
_FARTHEST = 1.5


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


def night_trends(nights: Sequence[PastNight]) -> Markup:
    """A small plot a figure over the nights; orange are nights of which a job failed."""
    days, a_day = [night.date for night in nights], dt.timedelta(days=1)
    colours = [REFUSED if night.failed else WORK for night in nights]
    figures = {
        "items embedded": [night.embedded for night in nights],
        "rows refused": [night.refused for night in nights],
        "minutes of work": [night.seconds / 60 for night in nights],
        "recall@10 of the index": [night.recall_at_10 for night in nights],
        "drift": [night.drift for night in nights],
    }
    with themed():
        figure = Figure(figsize=(PAGE_WIDTH, 1.9), layout="constrained")
        for axes, (name, values) in zip(figure.subplots(1, len(figures)), figures.items(), strict=True):
            axes.scatter(days, [np.nan if value is None else value for value in values], s=14, c=colours)
            axes.set_title(name, fontsize=9.5, loc="left")
            axes.set_xlim(days[0] - a_day, days[-1] + a_day)
            axes.set_xticks([days[0], days[-1]], [f"{day.day} {day:%b}" for day in (days[0], days[-1])])
            axes.yaxis.set_major_locator(MaxNLocator(3))
            axes.margins(y=0.2)
            axes.grid(axis="x", visible=False)
        return svg(figure, "trends", "Figures of the last nights")


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
