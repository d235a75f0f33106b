"""Whether a title names a colour: the plainest case of what a photo tells when the title does not."""

from __future__ import annotations

from models.make.text import split_words

# English colour terms of clothing, and the characters of the Chinese ones.
_COLOUR_WORDS = frozenset(
    split_words(
        "beige black blue bronze brown burgundy charcoal copper coral cream crimson fuchsia gold golden gray "
        "green grey indigo ivory khaki lavender lilac magenta maroon mauve mint multicolor multicolour "
        "mustard navy olive orange peach pink plum purple red rose rust scarlet silver tan taupe teal "
        "turquoise violet white yellow "
        "红橙黄绿青蓝紫粉棕褐黑白灰金银"
    )
)


def names_a_colour(title: str) -> bool:
    """Whether one of the title's words is a colour's name."""
    return not _COLOUR_WORDS.isdisjoint(split_words(title))
