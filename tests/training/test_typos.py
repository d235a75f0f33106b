"""A typo is one slip of the fingers, the same every time."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.training.typos import slips_of, with_typo


def test_a_word_has_every_slip_but_those_of_its_first_letter():
    swapped, dropped, doubled = slips_of("reed")
    assert swapped == ["rede"], "two equal letters swapped are no slip"
    assert dropped == ["red", "red", "ree"]
    assert doubled == ["reeed", "reeed", "reedd"]


@settings(deadline=None)
@given(st.text(st.sampled_from("abz é红 4-"), max_size=20))
def test_one_word_differs_by_one_slip_and_the_same_query_always_has_the_same(query: str):
    typo = with_typo(query)
    assert typo == with_typo(query)
    if typo is not None:
        assert typo != query
        assert abs(len(typo) - len(query)) <= 1
        assert sorted(set(typo)) == sorted(set(typo) & set(query))


@pytest.mark.parametrize("query", ["red top", "", "a b c", "4000", "iph0ne"])
def test_a_query_of_short_words_has_none(query: str):
    assert with_typo(query) is None


def test_all_kinds_of_slip_come_up():
    lengths = {len(with_typo(f"dress number {'x' * n}")) - len(f"dress number {'x' * n}") for n in range(30)}
    assert lengths == {-1, 0, 1}
