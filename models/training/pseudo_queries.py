"""Queries made of titles, for products that the log never showed."""

from typing import NamedTuple

import numpy as np

from models.make.text import split_terms

MAX_TERMS = 4
# Share of products with a photo whose title loses the drawn terms: the photo alone can then tell what is asked for.
WITHHELD = 0.5


class PseudoQuery(NamedTuple):
    """A query for a product, and the title under which the product has to be found."""

    query: str
    title: str


def draw_query(title: str, *, has_photo: bool, seed: int, item_key: int) -> PseudoQuery:
    """One to four terms of the title, drawn at random and in the title's order; "" for a title without any.

    Args:
        title: as the seller wrote it.
        has_photo: whether the title may lose the drawn terms, which happens to every second one.
        seed: decides the draw together with `item_key`, whatever was drawn before.
        item_key: 64-bit key of the product.
    """
    terms = split_terms(title)
    random = np.random.default_rng([seed, item_key % 2**64])
    count = min(len(terms), int(random.integers(1, MAX_TERMS + 1)))
    drawn = set(random.choice(len(terms), size=count, replace=False).tolist())
    query = " ".join(terms[place] for place in sorted(drawn))
    if has_photo and random.random() < WITHHELD:
        title = " ".join(term for place, term in enumerate(terms) if place not in drawn)
    return PseudoQuery(query, title)
