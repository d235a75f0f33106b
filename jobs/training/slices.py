"""Judged queries cut into slices: by what the query is, and by what its relevant items are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.make.text import split_words
from models.retrieval_metrics import ndcg_at_k, recall_at_k, reciprocal_rank

ALL = "all"
# Categories that have a slice: the largest, by relevant items.
_CATEGORIES = 8


@dataclass(frozen=True)
class RelevantItem:
    """An item that answers a judged query.

    Args:
        title: As the catalog has it today.
        category: The catalog's category; None where it names none.
        was_shown: Whether the log's window holds an event of the item.
    """

    title: str
    category: str | None
    was_shown: bool


@dataclass(frozen=True)
class JudgedQuery:
    """A query with the items that answer it.

    Args:
        query: The text.
        attributes: What the judged table says of the query, by column: `{"wording": "colloquial"}`.
        relevant: item_id to item; at least one.
    """

    query_id: str
    query: str
    attributes: Mapping[str, str]
    relevant: Mapping[str, RelevantItem]


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


def cut_slices(queries: Sequence[JudgedQuery]) -> list[Slice]:
    """All queries; queries by each value of their attributes; and queries with one kind of their relevant items each.

    Kinds of items: never shown in the log or shown; with a title that holds every word of the query or lacks one; and
    those of the largest categories.
    """
    by_attribute: dict[str, list[int]] = defaultdict(list)
    of_kind: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    categories: Counter[str] = Counter()
    for position, query in enumerate(queries):
        for name, value in query.attributes.items():
            by_attribute[f"{name}={value}"].append(position)
        words = set(split_words(query.query))
        for item_id, item in query.relevant.items():
            lacks = not words <= set(split_words(item.title))
            of_kind["items shown" if item.was_shown else "items never shown"][position].add(item_id)
            of_kind["titles that lack a word" if lacks else "titles that hold every word"][position].add(item_id)
            if item.category is not None:
                categories[item.category] += 1
                of_kind[f"category={item.category}"][position].add(item_id)
    small = {f"category={name}" for name, _ in categories.most_common()[_CATEGORIES:]}
    slices = [_of_queries(ALL, range(len(queries)), queries)]
    slices += [_of_queries(name, by_attribute[name], queries) for name in sorted(by_attribute)]
    slices += [_of_items(name, of_kind[name], queries) for name in sorted(of_kind) if name not in small]
    return slices


def _of_queries(name: str, positions: Sequence[int], queries: Sequence[JudgedQuery]) -> Slice:
    return Slice(name, positions, [set(queries[position].relevant) for position in positions], [set()] * len(positions))


def _of_items(name: str, items: Mapping[int, set[str]], queries: Sequence[JudgedQuery]) -> Slice:
    positions = sorted(items)
    relevant = [items[position] for position in positions]
    others = [set(queries[position].relevant) - items[position] for position in positions]
    return Slice(name, positions, relevant, others)
