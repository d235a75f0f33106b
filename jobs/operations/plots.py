"""Plots as SVG that takes its colours and its font from the page around it, so that one plot serves light and dark.

Matplotlib draws with stand-in colours; each becomes a CSS variable of the template.  Series colours follow Okabe and
Ito, which stay apart for every common kind of colour blindness.
"""

import io
import re
import warnings
from collections.abc import Sequence

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jobs.operations.night import HISTOGRAM_BINS, CategoryWeights, Rejection, Step

# Stand-in colour -> CSS variable.
_INK, _MUTED, _LINE, _REST, _WORK, _REFUSED, _PHOTO = (f"#0101{n:02d}" for n in range(7))
_VARIABLES = {
    _INK: "--ink",
    _MUTED: "--muted",
    _LINE: "--line",
    _REST: "--rest",
    _WORK: "--work",
    _REFUSED: "--refused",
    _PHOTO: "--photo",
}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _MUTED,
    "axes.edgecolor": _LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
    "xtick.color": _MUTED,
    "xtick.labelcolor": _MUTED,
    "xtick.bottom": False,
    "ytick.left": False,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
# Inches.  The page scales a picture to its column, so that text comes out at the same size in both.
_PAGE_WIDTH, _COLUMN_WIDTH = 10.5, 5.0
_ROW = 0.3


def rejection_bars(rejections: Sequence[Rejection]) -> Markup:
    """Recorded rows by reason, one bar each; grey are those that were accepted all the same."""
    names = [f"{r.reason} ({r.source})" for r in rejections]
    colours = [_REST if r.accepted else _REFUSED for r in rejections]
    with matplotlib.rc_context(_STYLE):
        figure, axes = _horizontal(_COLUMN_WIDTH, len(names), below=0.1)
        bars = axes.barh(names, [r.rows for r in rejections], color=colours, height=0.62)
        axes.bar_label(bars, [f"{r.rows:,}" for r in rejections], padding=4, color=_INK)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.margins(x=0.12)
        return _svg(figure, "rejections", "Rejected rows by reason")


def weight_histogram(counts: Sequence[int]) -> Markup:
    """Items by the photo's weight, `HISTOGRAM_BINS` equal bins over 0..1."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_COLUMN_WIDTH, 2.4), layout="constrained")
        axes = figure.subplots()
        edges = [n / HISTOGRAM_BINS for n in range(HISTOGRAM_BINS)]
        axes.bar(edges, counts, width=0.86 / HISTOGRAM_BINS, align="edge", color=_PHOTO)
        axes.set_xlim(0, 1)
        axes.set_xlabel("weight of the photo (0: title alone, 1: photo alone)")
        axes.set_ylabel("items")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="x", visible=False)
        return _svg(figure, "weights", "Histogram of the photo's weight")


def category_weights(categories: Sequence[CategoryWeights]) -> Markup:
    """Median and middle 80 % of the photo's weight by category."""
    names = [f"{c.category}  ({c.items:,})" for c in categories]
    with matplotlib.rc_context(_STYLE):
        figure, axes = _horizontal(_COLUMN_WIDTH, len(names), below=0.4)
        axes.hlines(names, [c.low for c in categories], [c.high for c in categories], color=_PHOTO, lw=5, alpha=0.35)
        axes.plot([c.median for c in categories], names, "o", color=_PHOTO, markersize=6)
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlabel("median and middle 80 % of items")
        axes.grid(axis="y", visible=False)
        return _svg(figure, "categories", "Weight of the photo by category")


def step_timings(steps: Sequence[Step]) -> Markup:
    """Wall seconds of every step, one bar each: the start of its process, then its work."""
    names = [step.job for step in steps]
    startup = [step.startup_seconds for step in steps]
    work = [step.wall_seconds - step.startup_seconds for step in steps]
    with matplotlib.rc_context(_STYLE):
        figure, axes = _horizontal(_PAGE_WIDTH, len(steps), below=0.75)
        axes.barh(names, startup, color=_REST, height=0.62, label="process start-up")
        bars = axes.barh(names, work, left=startup, color=_WORK, height=0.62, label="work")
        axes.bar_label(bars, [f"{step.wall_seconds:,.1f} s" for step in steps], padding=4, color=_INK)
        figure.legend(loc="outside lower left", ncols=2, handlelength=1, columnspacing=1.4)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("seconds")
        return _svg(figure, "timings", "Seconds of each step, process start-up apart")


def _horizontal(width: float, rows: int, *, below: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, below + 0.2 + _ROW * rows), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an `<svg>` element: scalable, themed, and with ids that no other plot of the page has."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The page's font draws the text; that matplotlib's own lacks a glyph (Chinese, say) costs only a wider margin.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(id="|xlink:href="#|clip-path="url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"font-family: [^;\"<]*;?", "", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    opening = f'<svg role="img" aria-label="{label}" class="plot"'
    return Markup(svg.replace("<svg", opening, 1))  # noqa: S704 - matplotlib has escaped every text in it
