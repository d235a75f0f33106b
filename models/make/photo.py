"""A product photo: which bytes are one, and what its pixels are.

Catalog and model ask the same function, so a photo that the catalog calls readable is one that the model can read.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Formats whose decoders are safe on bytes from strangers (Pillow would start Ghostscript for EPS), and a bound on what
# a small file may unpack to.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 64_000_000

# EXIF's tag, and its values: as it is; those that exchange width and height.
_ORIENTATION = 0x0112
_UPRIGHT, _SIDEWAYS = 1, {5, 6, 7, 8}


class UnreadablePhotoError(ValueError):
    """Bytes that are no photo; the message is why: empty, not_an_image, truncated, too_large or damaged."""


class Photo(NamedTuple):
    """A photo as a person sees it.

    Attributes:
        image: RGB, upright; of an animation the first frame, transparent parts white.
        format: one of `FORMATS`.
    """

    image: Image.Image
    format: str


def read_photo(content: bytes, *, at_least: tuple[int, int] | None = None) -> Photo:
    """Decode a photo to its last row of pixels.

    Args:
        content: the file's bytes.
        at_least: (height, width) that suffice; a JPEG may then be decoded at a half, a quarter or an eighth of its
            size, which is faster.  None: all pixels.

    Raises:
        UnreadablePhotoError: whatever the bytes are, this and nothing else.
    """
    if not content:
        raise UnreadablePhotoError("empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadablePhotoError("too_large")
            orientation = image.getexif().get(_ORIENTATION, _UPRIGHT)
            if at_least is not None:
                image.draft("RGB", at_least if orientation in _SIDEWAYS else at_least[::-1])
            upright = image if orientation == _UPRIGHT else ImageOps.exif_transpose(image)
            return Photo(_to_rgb(upright), image.format)
    except UnreadablePhotoError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadablePhotoError("not_an_image") from error
    except Image.DecompressionBombError as error:
        raise UnreadablePhotoError("too_large") from error
    except Exception as error:  # decoders raise whatever they like on damaged bytes: SyntaxError, struct.error, ...
        raise UnreadablePhotoError("truncated" if "truncated" in str(error).lower() else "damaged") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):  # 16 bits of grey, which `convert` would cut off at 255
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def decode_photo(content: bytes | None, *, size: tuple[int, int], interpolation: str = "bilinear") -> np.ndarray | None:
    """A photo as uint8 RGB (height, width, 3), resized to `size`; None without one, or when it cannot be read."""
    resampling = Image.Resampling[interpolation.upper()]
    if not content:
        return None
    try:
        photo = read_photo(content, at_least=size)
    except UnreadablePhotoError:
        return None
    return np.asarray(photo.image.resize(size[::-1], resampling))
