"""Queries made of titles, for products that the log never showed."""

import numpy as np

from models.make.text import split_terms

MAX_TERMS = 4


def pseudo_query(title: str, *, seed: int, item_key: int) -> str:
    """One to four terms of the title, drawn at random and in the title's order; "" for a title without any.

    Args:
        title: as the seller wrote it.
        seed: decides the draw together with `item_key`, whatever was drawn before.
        item_key: 64-bit key of the product.
    """
    terms = split_terms(title)
    random = np.random.default_rng([seed, item_key % 2**64])
    count = min(len(terms), int(random.integers(1, MAX_TERMS + 1)))
    return " ".join(terms[place] for place in sorted(random.choice(len(terms), size=count, replace=False)))
