"""Photos for tests: drawn on the spot, odd in every way that sellers' photos are, some of them broken on purpose."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

_ORIENTATION = 0x0112


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(colour: str, size: tuple[int, int] = (48, 64)) -> bytes:
    """A plain photo of one colour."""
    return saved(Image.new("RGB", size, colour), "JPEG")


def truncated_jpeg(colour: str) -> bytes:
    """A photo whose last half never arrived."""
    whole = jpeg(colour, (256, 256))
    return whole[: len(whole) // 2]


def two_colours(size: tuple[int, int] = (48, 64)) -> Image.Image:
    """Red above, blue below."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0], size[1] // 2))
    return image


def _animation() -> bytes:
    return saved(two_colours(), "GIF", save_all=True, append_images=[Image.new("RGB", (48, 64), "green")])


def _sideways() -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = 6  # to be turned clockwise by a quarter
    return saved(two_colours().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)


def _sixteen_bits() -> bytes:
    grey = np.full((64, 48), 16_000, dtype=np.uint16)
    grey[:32] = 48_000
    return saved(Image.fromarray(grey), "PNG")


def _transparent() -> bytes:
    image = two_colours().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 24, 64))
    return saved(image, "PNG")


# Photos that are unlike the plain ones and yet fine, by what is odd about them, each upright and 48 x 64.
ODD_PHOTOS: dict[str, Callable[[], bytes]] = {
    "animated": _animation,
    "sideways": _sideways,
    "16 bits": _sixteen_bits,
    "transparent": _transparent,
    "CMYK": lambda: saved(two_colours().convert("CMYK"), "JPEG", quality=95),
    "palette": lambda: saved(two_colours().quantize(4), "PNG"),
    "grey": lambda: saved(two_colours().convert("L"), "JPEG"),
}


def bomb() -> bytes:
    """A few kilobytes that would unpack to 80 million pixels."""
    return saved(Image.new("1", (9_000, 9_000)), "PNG")
