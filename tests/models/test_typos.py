"""A typo is one slip of the fingers."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.training.typos import slips_of, with_typo


def test_a_word_has_every_slip_but_those_of_its_first_letter():
    swapped, dropped, doubled = slips_of("reed")
    assert swapped == ["rede"], "two equal letters swapped are no slip"
    assert dropped == ["red", "red", "ree"]
    assert doubled == ["reeed", "reeed", "reedd"]


@settings(deadline=None)
@given(st.text(st.sampled_from("abz é红 4-"), max_size=20), st.integers())
def test_one_word_differs_by_one_slip_and_the_same_draw_gives_the_same(query: str, seed: int):
    typo = with_typo(query, Random(seed))
    assert typo == with_typo(query, Random(seed))
    if typo is not None:
        assert typo != query
        assert abs(len(typo) - len(query)) <= 1
        assert set(typo) <= set(query)


@pytest.mark.parametrize("query", ["red top", "", "a b c", "4000", "iph0ne"])
def test_a_query_of_short_words_has_none(query: str):
    assert with_typo(query, Random(0)) is None


def test_all_words_and_all_kinds_of_slip_come_up():
    typos = [with_typo("dress number", Random(seed)) for seed in range(50)]
    assert {len(typo) - len("dress number") for typo in typos} == {-1, 0, 1}
    assert {typo.endswith(" number") for typo in typos} == {True, False}
