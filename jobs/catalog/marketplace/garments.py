"""Shapes of the kinds of product, as data that `photos` draws.

Coordinates: x right, y down, the product fills about [-1, 1] both ways.  `mirrored` takes the right half of an outline,
from top to bottom, and adds the left.
"""

from dataclasses import dataclass, field
from typing import Literal

Point = tuple[float, float]
Tone = Literal["cloth", "dark", "darker", "light", "white"]


@dataclass(frozen=True)
class Part:
    """Something drawn over the cloth: a collar, a sole, a zip.

    Args:
        points: Corners of a polygon, or of a line when `width` is given.
        tone: Its colour, made from the cloth's.
        width: Line width; 0 fills a polygon.
    """

    points: tuple[Point, ...]
    tone: Tone
    width: float = 0.0


@dataclass(frozen=True)
class Garment:
    """One shape: the cloth's outline, which carries the pattern, and parts over it.

    Args:
        outline: Polygon.
        parts: Drawn in order; they may reach beyond the outline.
        rounds: How often the outline's corners are cut; 0 keeps them sharp.
    """

    outline: tuple[Point, ...]
    parts: tuple[Part, ...] = field(default=())
    rounds: int = 2


def mirrored(*half: Point) -> tuple[Point, ...]:
    """The whole outline from its right half."""
    return (*half, *((-x, y) for x, y in reversed(half)))


def _both_sides(tone: Tone, width: float, *points: Point) -> tuple[Part, Part]:
    return Part(points, tone, width), Part(tuple((-x, y) for x, y in points), tone, width)


def _buttons(*heights: float) -> tuple[Part, ...]:
    return tuple(Part(((-0.03, y), (0.03, y)), "white", 0.06) for y in heights)


TEE = Garment(
    mirrored((0, -0.62), (0.16, -0.66), (0.28, -0.82), (0.62, -0.70), (1.0, -0.28), (0.76, -0.06), (0.56, -0.26),
             (0.55, 0.5), (0.57, 0.88), (0, 0.90)),
    (
        Part(((-0.27, -0.79), (-0.15, -0.63), (0, -0.58), (0.15, -0.63), (0.27, -0.79)), "dark", 0.07),
        *_both_sides("dark", 0.03, (0.78, -0.10), (0.98, -0.31)),
    ),
)  # fmt: skip

SHIRT = Garment(
    mirrored((0, -0.74), (0.24, -0.86), (0.60, -0.72), (0.84, -0.20), (0.98, 0.62), (0.76, 0.68), (0.58, 0.02),
             (0.56, 0.6), (0.50, 0.88), (0.2, 0.97), (0, 0.98)),
    (
        Part(((0, -0.66), (0, 0.96)), "dark", 0.05),
        *_buttons(-0.45, -0.15, 0.15, 0.45, 0.75),
        *_both_sides("light", 0, (0, -0.62), (0.08, -0.90), (0.26, -0.92), (0.30, -0.70), (0.16, -0.46)),
        *_both_sides("darker", 0.025, (0, -0.62), (0.16, -0.46), (0.30, -0.70)),
        *_both_sides("dark", 0.09, (0.77, 0.60), (0.96, 0.55)),
        Part(((0.18, -0.22), (0.42, -0.22), (0.42, 0.05), (0.30, 0.11), (0.18, 0.05), (0.18, -0.22)), "dark", 0.025),
    ),
)  # fmt: skip

JACKET = Garment(
    mirrored((0, -0.80), (0.26, -0.90), (0.72, -0.74), (0.98, -0.10), (1.08, 0.58), (0.80, 0.64), (0.68, 0.10),
             (0.70, 0.80), (0, 0.82)),
    (
        Part(((-0.08, -0.80), (0.08, -0.80), (0.14, 0.80), (-0.14, 0.80)), "white"),
        *_both_sides("darker", 0.06, (0.10, -0.78), (0.14, 0.78)),
        *_both_sides("dark", 0, (0.06, -0.92), (0.28, -0.92), (0.48, -0.40), (0.36, -0.16), (0.13, -0.02)),
        *_both_sides("darker", 0.03, (0.48, -0.40), (0.36, -0.16), (0.13, -0.02)),
        *_both_sides("darker", 0.05, (0.30, 0.30), (0.56, 0.22)),
        *_both_sides("darker", 0, (0.80, 0.50), (1.06, 0.44), (1.09, 0.60), (0.80, 0.66)),
        *_both_sides("darker", 0, (0.14, 0.70), (0.70, 0.70), (0.70, 0.86), (0.14, 0.86)),
    ),
)  # fmt: skip

DRESS = Garment(
    mirrored((0, -0.62), (0.14, -0.70), (0.20, -0.98), (0.32, -0.98), (0.36, -0.58), (0.25, -0.16), (0.48, 0.35),
             (0.80, 0.94), (0.4, 1.0), (0, 1.02)),
    (
        Part(((-0.26, -0.14), (0.26, -0.14)), "darker", 0.08),
        *_both_sides("dark", 0.025, (0.12, -0.05), (0.34, 0.9)),
        Part(((0, -0.05), (0, 0.95)), "dark", 0.025),
    ),
)  # fmt: skip

SKIRT = Garment(
    mirrored((0, -0.62), (0.40, -0.62), (0.58, -0.1), (0.96, 0.70), (0.5, 0.78), (0, 0.80)),
    (
        Part(((-0.42, -0.66), (0.42, -0.66), (0.43, -0.48), (-0.43, -0.48)), "darker"),
        *_both_sides("dark", 0.03, (0.14, -0.46), (0.30, 0.74)),
        *_both_sides("dark", 0.03, (0.32, -0.46), (0.64, 0.70)),
        Part(((0, -0.46), (0, 0.76)), "dark", 0.03),
    ),
    rounds=1,
)

TROUSERS = Garment(
    mirrored((0, -0.98), (0.40, -0.98), (0.52, -0.30), (0.46, 0.98), (0.14, 0.98), (0.05, -0.16), (0.0, -0.22)),
    (
        Part(((-0.41, -1.0), (0.41, -1.0), (0.43, -0.86), (-0.43, -0.86)), "darker"),
        Part(((0, -0.86), (0, -0.24)), "darker", 0.03),
        *_both_sides("dark", 0.03, (0.32, -0.1), (0.30, 0.95)),
        *_both_sides("darker", 0.035, (0.44, -0.66), (0.28, -0.84)),
    ),
    rounds=1,
)

SHORTS = Garment(
    mirrored((0, -0.62), (0.54, -0.62), (0.82, 0.52), (0.16, 0.62), (0.05, 0.02), (0, -0.02)),
    (
        Part(((-0.55, -0.66), (0.55, -0.66), (0.57, -0.48), (-0.57, -0.48)), "darker"),
        Part(((0.02, -0.48), (0.12, -0.1)), "white", 0.03),
        Part(((-0.02, -0.48), (-0.12, -0.1)), "white", 0.03),
        *_both_sides("dark", 0.05, (0.80, 0.44), (0.17, 0.53)),
    ),
    rounds=1,
)

SNEAKERS = Garment(
    ((-0.98, 0.30), (-0.96, -0.30), (-0.80, -0.46), (-0.60, -0.30), (-0.42, -0.28), (-0.22, -0.46), (0.10, -0.16),
     (0.50, 0.04), (0.90, 0.14), (1.0, 0.34), (0.0, 0.38)),
    (
        Part(((-1.02, 0.28), (1.02, 0.30), (1.04, 0.46), (0.92, 0.54), (-0.98, 0.54), (-1.04, 0.46)), "white"),
        Part(((-1.02, 0.52), (0.98, 0.52)), "darker", 0.05),
        Part(((-0.40, -0.28), (-0.20, -0.46), (-0.10, -0.38), (-0.26, -0.16)), "darker"),
        *(Part(((x, y), (x + 0.16, y - 0.16)), "white", 0.05) for x, y in ((-0.24, -0.10), (-0.08, 0.0), (0.10, 0.08))),
        Part(((0.52, 0.30), (0.56, 0.12), (0.72, 0.10)), "dark", 0.04),
        Part(((-0.92, 0.28), (-0.62, 0.0), (-0.36, 0.28)), "light", 0.07),
    ),
)  # fmt: skip

BOOTS = Garment(
    ((-0.62, -0.96), (0.10, -0.96), (0.12, -0.2), (0.30, 0.12), (0.78, 0.28), (0.88, 0.56), (0.86, 0.66), (-0.60, 0.66),
     (-0.56, 0.1)),
    (
        Part(((-0.62, 0.64), (0.90, 0.64), (0.90, 0.76), (-0.10, 0.78), (-0.16, 0.96), (-0.62, 0.96)), "darker"),
        Part(((-0.63, -0.98), (0.11, -0.98), (0.11, -0.80), (-0.63, -0.80)), "dark"),
        Part(((-0.26, -0.78), (-0.22, 0.1)), "darker", 0.04),
        Part(((0.0, 0.0), (0.28, 0.16)), "dark", 0.04),
    ),
    rounds=1,
)  # fmt: skip

HANDBAG = Garment(
    mirrored((0, -0.22), (0.72, -0.22), (0.92, 0.74), (0.80, 0.84), (0, 0.86)),
    (
        Part(((-0.44, -0.20), (-0.40, -0.66), (-0.22, -0.86), (0.22, -0.86), (0.40, -0.66), (0.44, -0.20)), "darker",
             0.09),
        Part(((-0.73, -0.24), (0.73, -0.24), (0.77, -0.06), (-0.77, -0.06)), "dark"),
        *_both_sides("light", 0.12, (0.44, -0.16), (0.44, -0.10)),
        Part(((-0.12, -0.06), (0.12, -0.06), (0.12, 0.14), (-0.12, 0.14)), "light"),
    ),
    rounds=1,
)  # fmt: skip

CAP = Garment(
    ((-0.86, 0.20), (-0.82, -0.24), (-0.52, -0.56), (-0.10, -0.64), (0.32, -0.46), (0.52, -0.06), (0.54, 0.22),
     (-0.2, 0.30)),
    (
        Part(((0.30, 0.10), (0.70, 0.08), (1.06, 0.26), (1.02, 0.38), (0.5, 0.30), (-0.08, 0.34), (0.0, 0.24)),
             "darker"),
        Part(((-0.14, -0.62), (-0.18, 0.26)), "dark", 0.03),
        Part(((-0.14, -0.62), (0.34, 0.14)), "dark", 0.03),
        Part(((-0.16, -0.66), (-0.10, -0.66)), "darker", 0.1),
    ),
)  # fmt: skip

SCARF = Garment(
    ((-0.40, -0.88), (0.36, -0.90), (0.62, -0.56), (0.46, -0.20), (0.54, 0.86), (0.16, 0.88), (0.08, -0.02),
     (-0.04, 0.50), (-0.44, 0.46), (-0.30, -0.18), (-0.62, -0.50)),
    (
        Part(((-0.34, -0.62), (0.0, -0.42), (0.40, -0.60)), "darker", 0.07),
        Part(((-0.26, -0.20), (0.10, -0.06), (0.44, -0.20)), "dark", 0.06),
        *(Part(((x, 0.84), (x + 0.01, 1.02)), "dark", 0.035) for x in (0.18, 0.26, 0.34, 0.42, 0.50)),
        *(Part(((x, 0.44), (x - 0.01, 0.62)), "dark", 0.035) for x in (-0.40, -0.32, -0.24, -0.16, -0.08)),
    ),
)  # fmt: skip

GARMENTS: dict[str, Garment] = {
    "tee": TEE,
    "shirt": SHIRT,
    "jacket": JACKET,
    "dress": DRESS,
    "skirt": SKIRT,
    "trousers": TROUSERS,
    "shorts": SHORTS,
    "sneakers": SNEAKERS,
    "boots": BOOTS,
    "handbag": HANDBAG,
    "cap": CAP,
    "scarf": SCARF,
}
