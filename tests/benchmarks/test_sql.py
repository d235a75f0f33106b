"""What the benchmarks of SQL tell is what was measured."""

from itertools import islice

from benchmarks.sql_functions import BY_HAND, OURS, told
from benchmarks.sql_search import numbered, search_of


def test_a_way_is_told_by_its_median_and_what_ours_takes_of_it_in_the_same_round():
    rows = told(1_000, {OURS: [0.2, 0.1, 0.4], BY_HAND: [0.4, 0.4, 0.4]})
    assert rows == [
        ["1,000", OURS, "0.200", "5,000", "1.00"],
        ["1,000", BY_HAND, "0.400", "2,500", "0.50"],
    ]


def test_queries_are_told_apart_where_there_are_fewer_than_wanted():
    assert list(islice(numbered(["hat", "red dress"]), 5)) == ["hat", "red dress", "hat 1", "red dress 1", "hat 2"]


def test_a_text_is_a_literal_whatever_is_in_it():
    assert search_of("men's \\ shoe") == "SELECT * FROM search('men\\'s \\\\ shoe', 10)"
