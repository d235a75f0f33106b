"""Queries made of titles, so that products which the log never showed are asked for too."""

from random import Random
from typing import NamedTuple

from models.make.text import split_terms

MAX_TERMS = 4
# Share of titles, of those that may, that lose the terms drawn first: then the photo alone tells what is asked for.
WITHHELD = 0.5


class PseudoQueries(NamedTuple):
    """Queries for a product, and the title under which the product has to be found."""

    queries: list[str]
    title: str


def draw_queries(title: str, *, count: int, withhold: bool, seed: int, item_key: int) -> PseudoQueries:
    """Queries of one to four terms of the title, drawn at random and in the title's order; none without any term.

    Args:
        title: as the seller wrote it.
        count: how many queries.
        withhold: whether the title may lose the terms of the first query, which happens to every second one.
        seed: decides the draw together with `item_key`, whatever was drawn before.
        item_key: 64-bit key of the product.
    """
    terms = split_terms(title)
    random = Random(seed << 64 | item_key % 2**64)  # noqa: S311 - drawn by the thousand, and no secret
    queries, shown = [], title
    for place in range(count if terms else 0):
        drawn = set(random.sample(range(len(terms)), k=min(len(terms), random.randint(1, MAX_TERMS))))
        queries.append(" ".join(terms[position] for position in sorted(drawn)))
        if place == 0 and withhold and random.random() < WITHHELD:
            shown = " ".join(term for position, term in enumerate(terms) if position not in drawn)
    return PseudoQueries(queries, shown)
