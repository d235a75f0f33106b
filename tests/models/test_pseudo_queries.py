import pytest

from models.make.text import split_terms
from models.training.pseudo_queries import MAX_TERMS, PseudoQuery, draw_query

TITLE = "Roadster Men's Navy-Blue Check Shirt 42"
TERMS = ["roadster", "men", "s", "navy", "blue", "check", "shirt", "42"]


def draws(title: str, *, has_photo: bool = False) -> list[PseudoQuery]:
    return [draw_query(title, has_photo=has_photo, seed=seed, item_key=-7) for seed in range(300)]


def test_terms_are_the_titles_own_in_its_order():
    for query, _ in draws(TITLE):
        places = [TERMS.index(term) for term in query.split()]
        assert places == sorted(set(places))
        assert 1 <= len(places) <= MAX_TERMS
    assert {len(query.split()) for query, _ in draws(TITLE)} == {1, 2, 3, 4}


def test_every_second_product_with_a_photo_loses_the_terms_from_its_title_and_none_without():
    lost = 0
    for query, title in draws(TITLE, has_photo=True):
        if title != TITLE:
            assert sorted(query.split() + split_terms(title)) == sorted(TERMS)
            lost += 1
    assert lost == pytest.approx(150, abs=40)
    assert all(title == TITLE for _, title in draws(TITLE))


def test_a_script_without_spaces_is_drawn_in_pairs_of_characters():
    queries = " ".join(query for query, _ in draws("红色连衣裙 XL"))
    assert set(queries.split()) == {"红色", "连衣", "裙", "xl"}


def test_the_draw_depends_on_seed_and_product_and_on_nothing_else():
    assert draws(TITLE, has_photo=True) == draws(TITLE, has_photo=True)
    others = {draw_query(TITLE, has_photo=False, seed=1, item_key=key) for key in range(50)}
    assert len(others) > 10


def test_a_title_without_a_word_gives_an_empty_query():
    assert draw_query("!!! ---", has_photo=True, seed=0, item_key=1).query == ""
