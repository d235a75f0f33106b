"""Draw a product's photo: a garment in its colour and pattern, as some seller's camera would see it."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from jobs.catalog.marketplace.garments import GARMENTS, Point
from jobs.catalog.marketplace.vocabulary import COLOURS, KINDS, PATTERNS, Rgb

SIZE = 128
_CANVAS = 2 * SIZE  # drawn twice as large, then halved: PIL's polygons have hard edges
_QUALITY = 82
_BACKGROUNDS = ("studio", "room", "wood", "tiles")


def draw_photo(product: dict[str, int], rng: np.random.Generator) -> bytes:
    """A JPEG of `SIZE` x `SIZE` pixels that shows kind, colour and pattern.

    Args:
        product: Position of each attribute's value in `ATTRIBUTES`.
        rng: Pose, light, background and the shade of the dye.
    """
    garment = GARMENTS[KINDS[product["kind"]].name]
    dye = _shade(COLOURS[product["colour"]].rgb, rng)
    place = _Pose(rng)
    cloth = Image.new("RGB", (_CANVAS, _CANVAS), dye)
    _print_pattern(cloth, PATTERNS[product["pattern"]].name, dye, place, rng)
    mask = Image.new("L", (_CANVAS, _CANVAS), 0)
    ImageDraw.Draw(mask).polygon(place(_rounded(garment.outline, garment.rounds)), fill=255)
    for part in garment.parts:
        for image, fill in ((cloth, _tone(part.tone, dye)), (mask, 255)):
            draw = ImageDraw.Draw(image)
            if part.width:
                draw.line(place(part.points), fill=fill, width=max(1, round(part.width * place.scale)), joint="curve")
            else:
                draw.polygon(place(part.points), fill=fill)
    picture = _compose(cloth.reduce(2), mask.reduce(2), rng)
    return _jpeg(Image.fromarray(picture))


@lru_cache(maxsize=64)
def draw_card(text: str, variant: int) -> bytes:
    """A JPEG that shows no product: "photo soon", a size chart, a sale banner.  Same arguments, same bytes."""
    tint = ((236, 236, 240), (250, 230, 200), (214, 228, 244))[variant % 3]
    image = Image.new("RGB", (SIZE, SIZE), tint)
    draw = ImageDraw.Draw(image)
    if text == "size chart":
        for line in range(24, SIZE, 18):
            draw.line(((8, line), (SIZE - 8, line)), fill=(120, 120, 120))
            draw.line(((line, 24), (line, SIZE - 14)), fill=(170, 170, 170))
    if text == "sale":
        draw.polygon(((0, 20), (SIZE, 4), (SIZE, 96), (0, 118)), fill=(214, 34, 52))
    middle, font = (SIZE / 2, SIZE / 2), ImageFont.load_default(20)
    draw.text(middle, text.upper(), fill=(40, 40, 40), font=font, anchor="mm", stroke_width=3, stroke_fill=tint)
    return _jpeg(image)


class _Pose:
    """Where on the canvas the product lies: turned, scaled and shifted."""

    def __init__(self, rng: np.random.Generator) -> None:
        angle = np.deg2rad(rng.normal(0, 7))
        self.scale = _CANVAS * rng.uniform(0.34, 0.45)
        self.turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        self.turn *= np.array([[rng.choice((-1, 1))], [1]])  # some lie the other way round
        self.centre = _CANVAS / 2 + rng.uniform(-0.05, 0.05, 2) * _CANVAS

    def __call__(self, points: np.ndarray | tuple[Point, ...]) -> list[Point]:
        placed = np.asarray(points) @ self.turn * self.scale + self.centre
        return [tuple(point) for point in placed.tolist()]


def _rounded(outline: tuple[Point, ...], rounds: int) -> np.ndarray:
    """Chaikin's corner cutting: (n, 2) points become (n * 2 ** rounds, 2) on a smoother curve."""
    points = np.asarray(outline)
    for _ in range(rounds):
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * following, 0.25 * points + 0.75 * following], axis=1).reshape(-1, 2)
    return points


def _print_pattern(cloth: Image.Image, pattern: str, dye: Rgb, place: _Pose, rng: np.random.Generator) -> None:
    draw = ImageDraw.Draw(cloth)
    ink = _tone("white" if sum(dye) < 560 else "darker", dye)
    step = rng.uniform(0.20, 0.32)
    ticks = np.arange(-2, 2, step)
    thick = round(step * place.scale * 0.38)
    if pattern in ("striped", "checked"):
        for y in ticks:
            draw.line(place(((-2, y), (2, y))), fill=ink, width=thick)
    if pattern == "checked":
        crossing = _tone("darker" if sum(dye) < 560 else "dark", dye)
        for x in ticks:
            draw.line(place(((x, -2), (x, 2))), fill=crossing, width=thick)
    if pattern in ("dotted", "floral"):
        petal = 0.30 * step * place.scale
        for row, y in enumerate(ticks):
            for x, y_centre in place([(x + (row % 2) * step / 2, y) for x in ticks]):
                if pattern == "dotted":
                    draw.ellipse((x - petal, y_centre - petal, x + petal, y_centre + petal), fill=ink)
                else:
                    _draw_flower(draw, x + rng.normal(0, petal / 2), y_centre + rng.normal(0, petal / 2), petal, ink)


def _draw_flower(draw: ImageDraw.ImageDraw, x: float, y: float, petal: float, ink: Rgb) -> None:
    for angle in np.arange(5) * 2 * np.pi / 5:
        px, py, r = x + petal * np.cos(angle), y + petal * np.sin(angle), petal * 0.62
        draw.ellipse((px - r, py - r, px + r, py + r), fill=ink)
    draw.ellipse((x - petal / 2, y - petal / 2, x + petal / 2, y + petal / 2), fill=(240, 190, 60))


def _compose(cloth: Image.Image, mask: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Light the cloth, lay it with its shadow on a background.  Returns (SIZE, SIZE, 3) uint8."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE - 0.5
    direction = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0.05, 0.22) * (x * np.cos(direction) + y * np.sin(direction))
    folds = 1 + 0.04 * np.sin(rng.uniform(14, 26) * (x + rng.uniform(-0.5, 0.5) * y) + rng.uniform(0, 6))
    covered = np.asarray(mask, np.float32)[..., None] / 255
    shadow_mask = Image.fromarray(np.roll(np.asarray(mask), rng.integers(2, 7, 2), axis=(0, 1)))
    shadow = np.asarray(shadow_mask.filter(ImageFilter.GaussianBlur(4)), np.float32)[..., None] / 255
    background = _background(x, y, rng) * (1 - 0.4 * shadow)
    picture = np.asarray(cloth, np.float32) * (light * folds)[..., None] * covered + background * (1 - covered)
    return np.clip(picture * rng.uniform(0.9, 1.06), 0, 255).astype(np.uint8)


def _background(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(SIZE, SIZE, 3) float32: a surface of some muted colour."""
    kind = rng.choice(_BACKGROUNDS, p=(0.45, 0.25, 0.15, 0.15))
    base = np.float32(rng.uniform(150, 240)) + rng.uniform(-28, 28, 3).astype(np.float32)
    if kind == "wood":
        base = np.array([190, 150, 110], np.float32) * np.float32(rng.uniform(0.7, 1.15))
        tone = 1 + 0.06 * np.sin(70 * x + 6 * np.sin(5 * y)) - 0.25 * (np.abs((x * 5) % 1 - 0.5) < 0.03)
    elif kind == "room":
        tone = np.where(y < rng.uniform(0.1, 0.3), 1.0, 0.78)
    elif kind == "tiles":
        tone = 1 - 0.14 * ((np.floor(x * 6) + np.floor(y * 6)) % 2)
    else:
        tone = 1.08 - 0.5 * (x**2 + y**2)
    return base * tone.astype(np.float32)[..., None]


def _shade(rgb: Rgb, rng: np.random.Generator) -> Rgb:
    """The dye of one product: the colour, a little lighter or darker, a little off."""
    shade = np.array(rgb) * rng.normal(1, 0.07) + rng.normal(0, 6, 3)
    return tuple(int(value) for value in np.clip(shade, 8, 250))


def _tone(tone: str, dye: Rgb) -> Rgb:
    toward, share = {
        "dark": (0, 0.22),
        "darker": (0, 0.45),
        "light": (255, 0.45),
        "white": (255, 0.82),
        "cloth": (0, 0.0),
    }[tone]
    if sum(dye) < 150 and toward == 0:  # darker than black does not show
        toward, share = 255, share * 0.5
    return tuple(round(value + (toward - value) * share) for value in dye)


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
