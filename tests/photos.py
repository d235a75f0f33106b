"""Photos for tests: drawn on the spot, some of them broken on purpose."""

import io

from PIL import Image


def jpeg(colour: str, size: tuple[int, int] = (48, 64)) -> bytes:
    """A plain photo of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG")
    return buffer.getvalue()


def truncated_jpeg(colour: str) -> bytes:
    """A photo whose last half never arrived."""
    whole = jpeg(colour, (256, 256))
    return whole[: len(whole) // 2]
