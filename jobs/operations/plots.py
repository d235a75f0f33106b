"""The plots of the night's page that no other page has."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from jobs.core.plots import COLUMN_WIDTH, INK, PAGE_WIDTH, REFUSED, REST, WORK, horizontal, svg, themed
from jobs.index.gates import CEILINGS
from jobs.operations.night import Gate, Rejection, Step

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
