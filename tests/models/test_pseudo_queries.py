import zlib

import pytest

from models.make.text import split_terms
from models.training.pseudo_queries import (
    MAX_TERMS,
    TITLE_TERMS,
    ProductTerms,
    PseudoQueries,
    draw_queries,
    product_terms,
)

TITLE = "Roadster Men's Navy-Blue Check Shirt 42"
TERMS = ["roadster", "men", "s", "navy", "blue", "check", "shirt", "42"]


NOTHING_WITHHELD = {"count": 1, "typos": 0.0, "withhold": False}


def draws(title: str, *, withhold: bool = False, count: int = 1, typos: float = 0.0) -> list[PseudoQueries]:
    terms = ProductTerms(split_terms(title), [])
    chosen = {"count": count, "typos": typos, "withhold": withhold}
    return [draw_queries(title, terms, **chosen, seed=seed, item_key=-7) for seed in range(300)]


def test_a_product_is_described_by_how_its_title_begins_and_by_what_clicks_came_from():
    stuffed = "Roadster Navy Shirt Slim Fit Cotton Blend Watch Gold Sale"
    terms = product_terms(stuffed, ["navy chemise", "chemise roadster"])
    assert terms == (["roadster", "navy", "shirt", "slim", "fit", "cotton", "blend"], ["chemise"])
    assert len(product_terms(stuffed, []).of_title) == TITLE_TERMS


def test_queries_are_of_one_to_four_different_terms_of_the_product():
    drawn = [query.text.split() for made in draws(TITLE, count=2) for query in made.queries]
    assert len(drawn) == 600
    for query in drawn:
        assert len(set(query)) == len(query) <= MAX_TERMS
        assert set(query) <= set(TERMS)
    assert {len(query) for query in drawn} == {1, 2, 3, 4}


def test_a_query_with_a_word_that_only_clicks_brought_is_none_of_the_title():
    terms = ProductTerms(["navy", "shirt"], ["chemise"])
    made = [draw_queries("Navy Shirt", terms, **NOTHING_WITHHELD, seed=seed, item_key=3) for seed in range(50)]
    queries = [of_seed.queries[0] for of_seed in made]
    assert {query.of_title for query in queries} == {True, False}
    assert all(query.of_title == ("chemise" not in query.text) for query in queries)


def test_every_second_title_that_may_loses_its_first_querys_terms_and_no_other_does():
    lost = 0
    for queries, title, _ in draws(TITLE, withhold=True, count=2):
        if title != TITLE:
            assert sorted([*queries[0].text.split(), *split_terms(title)]) == sorted(TERMS)
            lost += 1
    assert lost == pytest.approx(150, abs=40)
    assert all(made.title == TITLE for made in draws(TITLE))


def test_some_queries_are_mistyped_in_one_word_and_the_title_never_is():
    mistyped = 0
    for plain, typed in zip(draws(TITLE, withhold=True), draws(TITLE, withhold=True, typos=0.25), strict=True):
        (query,) = typed.queries
        mistyped += any(word not in TERMS for word in query.text.split())
        assert sum(word not in TERMS for word in query.text.split()) <= 1
        assert query.of_title
        assert set(split_terms(typed.title)) <= set(TERMS)
        assert plain.term_key == typed.term_key
    assert mistyped == pytest.approx(75, abs=30)


def test_a_script_without_spaces_is_drawn_in_pairs_of_characters():
    queries = " ".join(query.text for made in draws("红色连衣裙 XL") for query in made.queries)
    assert set(queries.split()) == {"红色", "连衣", "裙", "xl"}


def test_the_draw_depends_on_seed_and_product_and_on_nothing_else():
    assert draws(TITLE, withhold=True) == draws(TITLE, withhold=True)
    made = [draw_queries(TITLE, ProductTerms(TERMS, []), **NOTHING_WITHHELD, seed=1, item_key=key) for key in range(50)]
    assert len({tuple(of_one.queries) for of_one in made}) > 10
    assert len({of_one.term_key for of_one in made}) > 4


def test_the_term_that_groups_a_product_is_one_of_its_own():
    assert {made.term_key for made in draws(TITLE)} == {zlib.crc32(term.encode()) for term in TERMS}


def test_a_product_without_a_word_has_no_query_and_meets_its_like():
    made = [
        draw_queries("!!! ---", ProductTerms([], []), count=2, typos=1.0, withhold=True, seed=0, item_key=key)
        for key in (1, 2)
    ]
    assert made == [([], "!!! ---", -1)] * 2
