"""Judged queries cut into slices: by what the query is, and by what its relevant items are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

import numpy as np

from models.make.text import split_words
from models.retrieval_metrics import ndcg_at_k, recall_at_k, reciprocal_rank
from models.training.typos import with_typo

ALL = "all"
TYPOS = "typos"
# What people are shown of a slice; `Slice.measure` gives more.
SHOWN_MEASURES = ("recall_at_10", "recall_at_100", "ndcg_at_10")
# Categories that have a slice: the largest, by relevant items.
_CATEGORIES = 8

# How much of the log's window is a query's or an item's: `head` are the most shown that together take half of all
# impressions, `tail` the others that the window knows, `none` what it does not know.
Traffic = Literal["head", "tail", "none"]
_QUERIES_BY_TRAFFIC = {"head": "queries of the head", "tail": "queries of the tail", "none": "queries new to the log"}


@dataclass(frozen=True)
class RelevantItem:
    """An item that answers a judged query.

    Args:
        title: As the catalog has it today.
        category: The catalog's category; None where it names none.
        traffic: How much the log shows it.
    """

    title: str
    category: str | None
    traffic: Traffic


@dataclass(frozen=True)
class JudgedQuery:
    """A query with the items that answer it.

    Args:
        query: The text.
        attributes: What the judged table says of the query, by column: `{"wording": "colloquial"}`.
        relevant: item_id to item; at least one.
        traffic: How often the log asks it, word for word.
    """

    query_id: str
    query: str
    attributes: Mapping[str, str]
    relevant: Mapping[str, RelevantItem]
    traffic: Traffic = "none"


@dataclass(frozen=True)
class Slice:
    """Some of the queries, each with all or some of its relevant items.

    Args:
        name: `all`, `wording=colloquial`, `items never shown`.
        positions: Which of the queries.
        relevant: The items that count, a query of the slice.
        others: Relevant items that do not count here, a query: they are neither hits nor in the way of one.
    """

    name: str
    positions: Sequence[int]
    relevant: Sequence[set[str]]
    others: Sequence[set[str]]

    def measure(self, ranked: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
        """Every figure by name, a value a query of the slice.

        Args:
            ranked: The ids found for each of the queries, those of other slices too, best first.
        """
        found = [
            [item_id for item_id in ranked[position] if item_id not in others]
            for position, others in zip(self.positions, self.others, strict=True)
        ]
        return {
            **{f"recall_at_{k}": recall_at_k(found, self.relevant, k) for k in (1, 10, 100)},
            "ndcg_at_10": ndcg_at_k(found, self.relevant, 10),
            "mrr": reciprocal_rank(found, self.relevant),
        }


def head_bound(shown: Mapping[int, int]) -> int:
    """The fewest impressions of the head: of the most shown that together take half of all impressions.

    Args:
        shown: Impressions to how many queries, or items, have as many.
    """
    half = sum(impressions * count for impressions, count in shown.items()) / 2
    taken = 0
    for impressions in sorted(shown, reverse=True):
        taken += impressions * shown[impressions]
        if taken >= half:
            return impressions
    return 0


def cut_slices(queries: Sequence[JudgedQuery]) -> list[Slice]:
    """All queries; queries by each value of their attributes and by traffic; queries with one kind of their items.

    Kinds of items: never shown in the log or shown, and then of its head or its tail; with a title that holds every
    word of the query or lacks one; and those of the largest categories.  Where all queries have the same traffic, there
    is no slice of it.
    """
    of_queries: dict[str, list[int]] = defaultdict(list)
    of_traffic: dict[str, list[int]] = defaultdict(list)
    of_kind: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    categories: Counter[str] = Counter()
    for position, query in enumerate(queries):
        of_traffic[_QUERIES_BY_TRAFFIC[query.traffic]].append(position)
        for name, value in query.attributes.items():
            of_queries[f"{name}={value}"].append(position)
        words = set(split_words(query.query))
        for item_id, item in query.relevant.items():
            for kind in _kinds(item, words):
                of_kind[kind][position].add(item_id)
            if item.category is not None:
                categories[item.category] += 1
                of_kind[_category_slice(item.category)][position].add(item_id)
    small = {_category_slice(name) for name, _ in categories.most_common()[_CATEGORIES:]}
    if len(of_traffic) > 1:
        of_queries |= of_traffic
    slices = [_of_queries(ALL, range(len(queries)), queries)]
    slices += [_of_queries(name, of_queries[name], queries) for name in sorted(of_queries)]
    slices += [_of_items(name, of_kind[name], queries) for name in sorted(of_kind) if name not in small]
    return slices


def mistyped_queries(queries: Sequence[JudgedQuery]) -> dict[int, str]:
    """Position to the query with a typo, the same every time; queries whose words are all short have none."""
    typos = {position: with_typo(query.query, Random(query.query)) for position, query in enumerate(queries)}  # noqa: S311
    return {position: typo for position, typo in typos.items() if typo is not None}


def typo_slice(queries: Sequence[JudgedQuery], mistyped: Mapping[int, str]) -> Slice:
    """The mistyped queries, each with the items of the query that was meant; their rankings follow all queries'."""
    meant = _of_queries(TYPOS, list(mistyped), queries)
    return replace(meant, positions=range(len(queries), len(queries) + len(mistyped)))


def _category_slice(category: str) -> str:
    return f"items of category {category}"


def lacks_a_word(title: str, query_words: set[str]) -> bool:
    """Whether the title holds fewer than all words of a query."""
    return not query_words <= set(split_words(title))


def _kinds(item: RelevantItem, query_words: set[str]) -> Iterator[str]:
    yield "titles that lack a word" if lacks_a_word(item.title, query_words) else "titles that hold every word"
    if item.traffic == "none":
        yield "items never shown"
    else:
        yield "items shown"
        yield f"items of the {item.traffic}"


def _of_queries(name: str, positions: Sequence[int], queries: Sequence[JudgedQuery]) -> Slice:
    return Slice(name, positions, [set(queries[position].relevant) for position in positions], [set()] * len(positions))


def _of_items(name: str, items: Mapping[int, set[str]], queries: Sequence[JudgedQuery]) -> Slice:
    positions = sorted(items)
    relevant = [items[position] for position in positions]
    others = [set(queries[position].relevant) - items[position] for position in positions]
    return Slice(name, positions, relevant, others)
