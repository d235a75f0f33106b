"""How a training run went, from the lines that it wrote while it ran."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from jobs.core.lake import Lake
from jobs.core.plots import COLUMN_WIDTH, INK, SERIES, svg, themed

# Points of a line: more than a screen has columns to show are averaged.
_POINTS = 300
_RECALL = ("recall_at_10", "recall_at_100")
# What a line of a step says beside losses and what every line says.
_OF_STEPS = {"share_done", "seconds_left"}


@dataclass(frozen=True)
class Curve:
    """A figure over the run: `steps` ascending, and the value at each."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]

    def thinned(self) -> Curve:
        """The curve with at most `_POINTS` points, each the mean of its neighbours."""
        count = min(_POINTS, len(self.steps))
        parts = (np.array_split(np.array(numbers, float), count) for numbers in (self.steps, self.values))
        return Curve(self.name, *([float(part.mean()) for part in of] for of in parts))


@dataclass(frozen=True)
class Curves:
    """The run's losses, the whole one first, and its recall on held-out clicks."""

    losses: Sequence[Curve]
    recall: Sequence[Curve]


def read_curves(lake: Lake, model_version: str) -> Curves | None:
    """The curves of the run that made the model; None where it left no lines."""
    path = lake.path("training_runs", f"{model_version}.jsonl")
    if not lake.fs.exists(path):
        return None
    with lake.fs.open(path, "r", encoding="utf-8") as file:
        return curves_of(json.loads(line) for line in file if line.strip())


def curves_of(lines: Iterable[Mapping[str, object]]) -> Curves | None:
    """The curves in a run's lines; None without a step.

    What else a line of a step has, and none of a validation, is a part of the loss: speed stands in both.  A run that
    was killed and went on repeats some steps; the later line counts.
    """
    steps: dict[float, Mapping[str, float]] = {}
    validations: dict[float, Mapping[str, float]] = {}
    for line in lines:
        of_event = {"step": steps, "validation": validations}.get(line["event"])
        if of_event is not None:
            of_event[line["steps"]] = line
    if not steps:
        return None
    shared = _OF_STEPS.union({"loss"}, *validations.values())
    parts = sorted(set().union(*steps.values()) - shared) if validations else []
    return Curves(
        losses=[_curve(name, steps) for name in ("loss", *parts)],
        recall=[_curve(name, validations) for name in _RECALL if any(name in line for line in validations.values())],
    )


def _curve(name: str, lines: Mapping[float, Mapping[str, float]]) -> Curve:
    known = sorted(step for step, line in lines.items() if name in line)
    return Curve(name, known, [lines[step][name] for step in known])


def draw_curves(curves: Sequence[Curve], *, name: str, label: str) -> Markup:
    """Lines over steps, each named at its end.

    Args:
        curves: What to draw; a curve of few points has them marked.
        name: The plot's own on the page.
        label: What the plot shows.
    """
    with themed():
        figure = Figure(figsize=(COLUMN_WIDTH, 2.8), layout="constrained")
        axes = figure.subplots()
        for curve, colour in zip(map(Curve.thinned, curves), SERIES * len(curves), strict=False):
            marker = "o" if len(curve.steps) < 20 else None
            axes.plot(curve.steps, curve.values, color=colour, lw=1.4, marker=marker, markersize=4, label=curve.name)
        axes.set_xlabel("steps")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        figure.legend(loc="outside lower left", ncols=3, handlelength=1, columnspacing=1.4, labelcolor=INK)
        return svg(figure, name, label)
