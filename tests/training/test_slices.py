"""A slice measures what its name says, by rankings done by hand."""

import pytest

from jobs.training.evaluate import measure_slices
from jobs.training.judged import JudgedSet
from jobs.training.slices import JudgedQuery, RelevantItem, cut_slices, head_bound, mistyped_queries

DRESS = RelevantItem("Red summer dress", "dresses", traffic="head")
GOWN = RelevantItem("Evening gown", "dresses", traffic="none")
SHOE = RelevantItem("Running shoe", "shoes", traffic="tail")
QUERIES = [
    JudgedQuery("q1", "red dress", {"wording": "plain"}, {"dress": DRESS, "gown": GOWN}),
    JudgedQuery("q2", "runners", {"wording": "colloquial"}, {"shoe": SHOE}, traffic="tail"),
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
    assert measured["items of category shoes"]["recall_at_1"] == 0.0


def test_only_the_largest_categories_have_a_slice():
    relevant = {
        f"i{n}": RelevantItem("a", f"c{n % 12:02d}", traffic="head") for n in range(120) if n % 12 < 4 or n < 60
    }
    names = [part.name for part in cut_slices([JudgedQuery("q", "a", {}, relevant)])]
    categories = [name for name in names if name.startswith("items of category ")]
    assert len(categories) == 8
    assert {f"items of category c{n:02d}" for n in range(4)} <= set(categories)


def test_the_head_is_the_most_shown_that_together_take_half_of_all_impressions():
    assert head_bound({100: 1, 40: 2, 5: 4}) == 100
    assert head_bound({10: 1, 9: 2, 1: 12}) == 9
    assert head_bound({3: 7}) == 3, "where all are shown alike, all are the head"
    assert head_bound({}) == 0


def test_items_and_queries_of_the_head_are_told_from_the_others(measured):
    assert measured["items of the head"]["mrr"] == 0.5
    assert measured["items of the tail"]["mrr"] == pytest.approx(1 / 3)
    assert measured["queries of the tail"]["queries"] == measured["queries new to the log"]["queries"] == 1
    alike = [part.name for part in cut_slices(QUERIES[:1])]
    assert not [name for name in alike if name.startswith("queries ")], "that slice would be all over again"


def test_a_mistyped_query_is_measured_by_what_was_meant_beside_the_whole():
    judged = JudgedSet("digest", 1, [JudgedQuery("q0", "top", {}, {"dress": DRESS}), *QUERIES])
    assert judged.texts[:3] == ["top", "red dress", "runners"]
    assert list(judged.mistyped) == [1, 2], "a word of three letters is left alone"
    assert [query.query_id for query in judged.meant] == ["q0", "q1", "q2", "q1", "q2"]
    measured = measure_slices(judged.slices, [["dress"], *RANKED, ["dress"], ["x"]])
    assert list(measured)[:2] == ["all", "typos"]
    assert measured["typos"]["queries"] == 2
    assert measured["typos"]["mrr"] == 0.5
    assert measured["all"]["mrr"] == pytest.approx((1 + 1 + 1 / 3) / 3)


def test_a_query_has_the_same_typo_in_every_process():
    asked = [JudgedQuery(text, text, {}, {"dress": DRESS}) for text in ("red summer dress", "red top", "blue top")]
    assert mistyped_queries(asked) == {0: "red summerr dress", 2: "bluue top"}
