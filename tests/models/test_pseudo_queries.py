import pytest

from models.make.text import split_terms
from models.training.pseudo_queries import MAX_TERMS, PseudoQueries, draw_queries

TITLE = "Roadster Men's Navy-Blue Check Shirt 42"
TERMS = ["roadster", "men", "s", "navy", "blue", "check", "shirt", "42"]


def draws(title: str, *, withhold: bool = False, count: int = 1) -> list[PseudoQueries]:
    return [draw_queries(title, count=count, withhold=withhold, seed=seed, item_key=-7) for seed in range(300)]


def test_terms_are_the_titles_own_in_its_order():
    drawn = [query for queries, _ in draws(TITLE, count=2) for query in queries]
    assert len(drawn) == 600
    for query in drawn:
        places = [TERMS.index(term) for term in query.split()]
        assert places == sorted(set(places))
        assert 1 <= len(places) <= MAX_TERMS
    assert {len(query.split()) for query in drawn} == {1, 2, 3, 4}


def test_every_second_title_that_may_loses_its_first_querys_terms_and_no_other_does():
    lost = 0
    for queries, title in draws(TITLE, withhold=True, count=2):
        if title != TITLE:
            assert sorted(queries[0].split() + split_terms(title)) == sorted(TERMS)
            lost += 1
    assert lost == pytest.approx(150, abs=40)
    assert all(title == TITLE for _, title in draws(TITLE))


def test_a_script_without_spaces_is_drawn_in_pairs_of_characters():
    queries = " ".join(query for queries, _ in draws("红色连衣裙 XL") for query in queries)
    assert set(queries.split()) == {"红色", "连衣", "裙", "xl"}


def test_the_draw_depends_on_seed_and_product_and_on_nothing_else():
    assert draws(TITLE, withhold=True) == draws(TITLE, withhold=True)
    others = {tuple(draw_queries(TITLE, count=1, withhold=False, seed=1, item_key=key).queries) for key in range(50)}
    assert len(others) > 10


def test_a_title_without_a_word_gives_no_query():
    drawn = draw_queries("!!! ---", count=2, withhold=True, seed=0, item_key=1)
    assert drawn == ([], "!!! ---")
