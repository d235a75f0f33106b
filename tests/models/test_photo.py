"""Whatever the bytes are, a photo is read as a person sees it, or is unreadable for a reason; no bytes stop a night."""

import random

import numpy as np
import pytest
from PIL import Image

from models.make.photo import FORMATS, UnreadablePhotoError, decode_photo, read_photo
from tests.photos import ODD_PHOTOS, bomb, jpeg, saved, truncated_jpeg, two_colours

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Pixels near the four corners: upper left, upper right, lower left, lower right."""
    width, height = image.size
    return [image.getpixel((x, y)) for y in (8, height - 9) for x in (8, width - 9)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("animated", [RED, RED, BLUE, BLUE]),
        ("sideways", [RED, RED, BLUE, BLUE]),
        ("CMYK", [RED, RED, BLUE, BLUE]),
        ("palette", [RED, RED, BLUE, BLUE]),
        ("transparent", [WHITE, RED, WHITE, BLUE]),
        ("16 bits", [(187,) * 3, (187,) * 3, (62,) * 3, (62,) * 3]),
        ("grey", [(76,) * 3, (76,) * 3, (29,) * 3, (29,) * 3]),
    ],
)
def test_an_odd_photo_is_read_as_a_person_sees_it(kind, expected):
    photo = read_photo(ODD_PHOTOS[kind]())
    assert (photo.image.size, photo.image.mode) == ((48, 64), "RGB")
    np.testing.assert_allclose(corners(photo.image), expected, atol=4)


@pytest.mark.parametrize("kind", ODD_PHOTOS)
def test_the_model_sees_what_a_person_sees(kind):
    content = ODD_PHOTOS[kind]()
    pixels = decode_photo(content, size=(16, 12))
    assert pixels.shape == (16, 12, 3)
    whole = np.asarray(read_photo(content).image.resize((12, 16), Image.Resampling.BILINEAR), dtype=float)
    assert np.abs(pixels - whole).mean() < 4


def test_a_large_photo_that_lies_on_its_side_keeps_enough_pixels():
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = Image.effect_noise((640, 160), 80).convert("RGB")
    content = saved(noise, "JPEG", exif=exif)
    assert read_photo(content).image.size == (160, 640)
    width, height = read_photo(content, at_least=(300, 70)).image.size
    assert (width, height) == (80, 320)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<html>404 Not Found</html>", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
        (truncated_jpeg("red"), "truncated"),
        (bomb(), "too_large"),
    ],
)
def test_bytes_that_are_no_photo_say_why(content, reason):
    with pytest.raises(UnreadablePhotoError, match=f"^{reason}$"):
        read_photo(content)
    assert decode_photo(content, size=(8, 8)) is None


def test_damaged_bytes_give_a_photo_or_a_reason_and_nothing_else():
    dice = random.Random(0)
    for kind in FORMATS:
        content = saved(two_colours(), kind)
        for _ in range(200):
            damaged = bytearray(content)
            for _ in range(dice.randrange(1, 8)):
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
            pixels = decode_photo(bytes(damaged), size=(8, 8))
            assert pixels is None or pixels.shape == (8, 8, 3)


def test_a_photo_keeps_height_and_width_apart():
    assert decode_photo(jpeg("red", size=(30, 90)), size=(40, 20)).shape == (40, 20, 3)
