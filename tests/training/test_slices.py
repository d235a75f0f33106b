"""A slice measures what its name says, by rankings done by hand."""

import pytest

from jobs.training.evaluate import measure_slices
from jobs.training.slices import JudgedQuery, RelevantItem, cut_slices

DRESS = RelevantItem("Red summer dress", "dresses", was_shown=True)
GOWN = RelevantItem("Evening gown", "dresses", was_shown=False)
SHOE = RelevantItem("Running shoe", "shoes", was_shown=True)
QUERIES = [
    JudgedQuery("q1", "red dress", {"wording": "plain"}, {"dress": DRESS, "gown": GOWN}),
    JudgedQuery("q2", "runners", {"wording": "colloquial"}, {"shoe": SHOE}),
]
RANKED = [["gown", "x", "dress"], ["x", "y", "shoe"]]


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, float]]:
    return measure_slices(cut_slices(QUERIES), RANKED)


def test_the_whole_counts_every_query_and_has_intervals(measured):
    figures = measured["all"]
    assert figures["queries"] == 2
    assert figures["recall_at_1"] == 0.5
    assert figures["recall_at_10"] == 1.0
    assert figures["mrr"] == pytest.approx((1 + 1 / 3) / 2)
    assert figures["recall_at_10_lower"] <= figures["recall_at_10"] <= figures["recall_at_10_upper"]


def test_an_attribute_of_queries_gives_a_slice_a_value(measured):
    assert measured["wording=plain"]["queries"] == measured["wording=colloquial"]["queries"] == 1
    assert measured["wording=plain"]["mrr"] == 1.0
    assert measured["wording=colloquial"]["mrr"] == pytest.approx(1 / 3)


def test_in_a_slice_of_items_the_querys_other_items_are_neither_hits_nor_in_the_way(measured):
    assert measured["items never shown"]["queries"] == 1
    assert measured["items never shown"]["mrr"] == 1.0
    # Without the gown, the dress is second.
    assert measured["titles that hold every word"]["mrr"] == 0.5
    assert measured["titles that lack a word"]["mrr"] == pytest.approx((1 + 1 / 3) / 2)
    assert measured["category=shoes"]["recall_at_1"] == 0.0


def test_only_the_largest_categories_have_a_slice():
    relevant = {
        f"i{n}": RelevantItem("a", f"c{n % 12:02d}", was_shown=True) for n in range(120) if n % 12 < 4 or n < 60
    }
    names = [part.name for part in cut_slices([JudgedQuery("q", "a", {}, relevant)])]
    categories = [name for name in names if name.startswith("category=")]
    assert len(categories) == 8
    assert {f"category=c{n:02d}" for n in range(4)} <= set(categories)
