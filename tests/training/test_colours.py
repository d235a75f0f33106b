import pytest

from jobs.training.colours import names_a_colour


@pytest.mark.parametrize(
    ("title", "named"),
    [
        ("Navy-blue Polo T-shirt", True),
        ("ＲＥＤ dress", True),
        ("红色连衣裙", True),
        ("Nike Men Running Shoes", False),
        ("Blackberrys shirt, colourful", False),
        ("", False),
    ],
)
def test_a_colour_is_named_by_a_word_of_the_title(title: str, named: bool):
    assert names_a_colour(title) is named
