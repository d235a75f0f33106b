"""Queries made of a product's own words, so that combinations which the log never asked for are asked for too."""

import zlib
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from models.make.text import split_terms
from models.training.typos import with_typo

MAX_TERMS = 4
# Sellers begin with what a product is; what comes after so many terms is often stuffed in to be found.
TITLE_TERMS = 7
# Share of titles, of those that may, that lose the terms drawn first: then the photo alone tells what is asked for.
WITHHELD = 0.5


class ProductTerms(NamedTuple):
    """The words that describe a product, each once.

    Attributes:
        of_title: those that its title begins with.
        of_clicks: the further ones of the queries whose clicks led to it.
    """

    of_title: list[str]
    of_clicks: list[str]


class PseudoQuery(NamedTuple):
    """Words of a product as a shopper may ask for them.

    Attributes:
        text: the words, one of them mistyped now and then.
        of_title: the title begins with all of them.
    """

    text: str
    of_title: bool


class PseudoQueries(NamedTuple):
    """What is drawn for a product in an epoch.

    Attributes:
        queries: of its terms.
        title: under which the product has to be found.
        term_key: of one of its terms; products without any share one.
    """

    queries: list[PseudoQuery]
    title: str
    term_key: int


def product_terms(title: str, asked: Sequence[str]) -> ProductTerms:
    """Take a product's words out of its title and its queries.

    Args:
        title: as the seller wrote it.
        asked: the queries whose clicks led to the product.
    """
    of_title = dict.fromkeys(split_terms(title)[:TITLE_TERMS])
    of_queries = dict.fromkeys(term for query in asked for term in split_terms(query))
    return ProductTerms(list(of_title), [term for term in of_queries if term not in of_title])


def draw_queries(
    title: str, terms: ProductTerms, *, count: int, typos: float, withhold: bool, seed: int, item_key: int
) -> PseudoQueries:
    """Queries of one to four of a product's terms, drawn at random in any order; none without any term.

    Args:
        title: as the seller wrote it.
        terms: of the product, as `product_terms` gives them.
        count: how many queries.
        typos: share of them that are mistyped, of those that can be.
        withhold: whether the title may lose the terms of the first query, which happens to every second one.
        seed: decides the draw together with `item_key`, whatever was drawn before.
        item_key: 64-bit key of the product.
    """
    random = Random(seed << 64 | item_key % 2**64)  # noqa: S311 - drawn by the thousand, and no secret
    words = [*terms.of_title, *terms.of_clicks]
    term_key = zlib.crc32(random.choice(words).encode()) if words else -1
    queries, shown = [], title
    for place in range(count if words else 0):
        drawn = random.sample(words, k=min(len(words), random.randint(1, MAX_TERMS)))
        text = " ".join(drawn)
        if random.random() < typos:
            text = with_typo(text, random) or text
        queries.append(PseudoQuery(text, of_title=not set(drawn) & set(terms.of_clicks)))
        if place == 0 and withhold and random.random() < WITHHELD:
            shown = " ".join(term for term in split_terms(title) if term not in drawn)
    return PseudoQueries(queries, shown, term_key)
