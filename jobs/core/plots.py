"""Plots as SVG that takes its colours and its font from the page around it, so that one plot serves light and dark.

Matplotlib draws with stand-in colours; each becomes a CSS variable of the template.  Series colours follow Okabe and
Ito, which stay apart for every common kind of colour blindness.
"""

import io
import re
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HISTOGRAM_BINS = 40

# Stand-in colour -> CSS variable.
INK, _MUTED, _LINE, REST, WORK, REFUSED, _PHOTO, _GREEN = (f"#0101{n:02d}" for n in range(8))
_VARIABLES = {
    INK: "--ink",
    _MUTED: "--muted",
    _LINE: "--line",
    REST: "--rest",
    WORK: "--work",
    REFUSED: "--refused",
    _PHOTO: "--photo",
    _GREEN: "--green",
}
# For lines that are told apart by colour, in this order.
SERIES = (WORK, REFUSED, _GREEN, _PHOTO, REST, INK)
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "page",
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": INK,
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
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
# Inches.  The page scales a picture to its column, so that text comes out at the same size in both.
PAGE_WIDTH, COLUMN_WIDTH = 10.5, 5.0
_ROW = 0.3


@dataclass(frozen=True)
class WeightSpread:
    """Spread of the photo's weight among a group's items that have a readable photo: a category's, say.

    Args:
        low, median, high: The ends of the middle 80 %, and the middle.
    """

    group: str
    items: int
    low: float
    median: float
    high: float


def themed() -> AbstractContextManager[None]:
    """The style of all plots, for as long as the block lasts."""
    return matplotlib.rc_context(_STYLE)


def weight_histogram(counts: Sequence[int]) -> Markup:
    """Items by the photo's weight, `HISTOGRAM_BINS` equal bins over 0..1."""
    with themed():
        figure = Figure(figsize=(COLUMN_WIDTH, 2.4), layout="constrained")
        axes = figure.subplots()
        edges = [n / HISTOGRAM_BINS for n in range(HISTOGRAM_BINS)]
        axes.bar(edges, counts, width=0.86 / HISTOGRAM_BINS, align="edge", color=_PHOTO)
        axes.set_xlim(0, 1)
        axes.set_xlabel("weight of the photo (0: title alone, 1: photo alone)")
        axes.set_ylabel("items")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.grid(axis="x", visible=False)
        return svg(figure, "weights", "Histogram of the photo's weight")


def weight_spreads(groups: Sequence[WeightSpread], *, name: str = "spreads") -> Markup:
    """Median and middle 80 % of the photo's weight, a group a line; `name` is the plot's own on the page."""
    names = [f"{g.group}  ({g.items:,})" for g in groups]
    with themed():
        figure, axes = horizontal(COLUMN_WIDTH, len(names), below=0.4)
        axes.hlines(names, [g.low for g in groups], [g.high for g in groups], color=_PHOTO, lw=5, alpha=0.35)
        axes.plot([g.median for g in groups], names, "o", color=_PHOTO, markersize=6)
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlabel("median and middle 80 % of items")
        axes.grid(axis="y", visible=False)
        return svg(figure, name, "Weight of the photo by group")


def horizontal(width: float, rows: int, *, below: float) -> tuple[Figure, Axes]:
    """An empty plot of horizontal bars; `width` and the room `below` them are inches."""
    figure = Figure(figsize=(width, below + 0.2 + _ROW * rows), layout="constrained")
    return figure, figure.subplots()


def svg(figure: Figure, name: str, label: str) -> Markup:
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
