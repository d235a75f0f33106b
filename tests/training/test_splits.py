"""Queries that mean the same are never on both sides of a split."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from jobs.training.splits import SPLITS, TRAIN, VALIDATION_ITEMS, VALIDATION_QUERIES, group_queries, hold_out_groups
from models.make.text import split_words
from models.training import validation

WORDS = st.sampled_from(["red", "blue", "dress", "shirt", "Nike", "连衣裙"])
QUERIES = st.lists(st.lists(WORDS, min_size=1, max_size=3).map(" ".join), unique=True, max_size=20)
SHARES = {VALIDATION_QUERIES: 0.2, VALIDATION_ITEMS: 0.1}


def test_word_order_and_case_do_not_part_queries():
    groups = group_queries(["dress red", "red dress", "RED-dress", "blue dress"], [])
    assert groups["dress red"] == groups["red dress"] == groups["RED-dress"] == "RED-dress"
    assert groups["blue dress"] == "blue dress"


def test_edges_join_transitively_and_across_bags_of_words():
    groups = group_queries(["a b", "b a", "c", "d", "e"], [("b a", "c"), ("d", "c"), ("e", "unknown")])
    assert groups == {"a b": "a b", "b a": "a b", "c": "a b", "d": "a b", "e": "e"}


def reachable(start: str, queries: list[str], edges: list[tuple[str, str]]) -> set[str]:
    """The obvious reference: everything that one can walk to."""
    found, frontier = set(), {start}
    while frontier:
        found |= frontier
        bags = {tuple(sorted(split_words(q))) for q in frontier}
        same_bag = {q for q in queries if tuple(sorted(split_words(q))) in bags}
        joined = {b for a, b in [*edges, *((b, a) for a, b in edges)] if a in frontier}
        frontier = (same_bag | joined) - found
    return found


@given(QUERIES, st.data())
def test_groups_equal_what_one_can_walk_to(queries, data):
    pairs = st.tuples(st.sampled_from(queries), st.sampled_from(queries)) if queries else st.nothing()
    edges = data.draw(st.lists(pairs, max_size=10)) if queries else []
    groups = group_queries(queries, edges)
    for query in queries:
        expected = reachable(query, queries, edges)
        assert {q for q in queries if groups[q] == groups[query]} == expected
        assert groups[query] == min(expected)


@given(st.dictionaries(st.text(max_size=4), st.integers(1, 50), max_size=60), st.integers(0, 5))
def test_no_split_exceeds_its_share_and_no_group_is_in_two(rows, seed):
    held_out = hold_out_groups(rows, SHARES, seed=seed)
    held_rows = Counter()
    for group, split in held_out.items():
        held_rows[split] += rows[group]
    for split, share in SHARES.items():
        assert held_rows[split] <= share * sum(rows.values())


def test_the_seed_decides_what_is_held_out_and_the_share_is_used():
    rows = {f"g{n}": 1 + n % 3 for n in range(1_000)}
    first, again, other = (hold_out_groups(rows, SHARES, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    held = Counter()
    for group, split in first.items():
        held[split] += rows[group] / sum(rows.values())
    assert {split: round(share, 2) for split, share in held.items()} == SHARES


def test_a_group_that_holds_much_of_the_log_trains():
    assert "head" not in hold_out_groups({"head": 900, **{f"g{n}": 1 for n in range(100)}}, SHARES, seed=0)


def test_training_validates_on_the_splits_that_are_built():
    """Training may not import the jobs, so the names stand on either side."""
    assert {TRAIN, *validation.SPLITS} == set(SPLITS)
