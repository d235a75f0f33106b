"""Which queries train and which are held out: whole groups of queries that mean the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from models.make.text import split_words

TRAIN = "train"
VALIDATION_QUERIES = "validation_queries"
VALIDATION_ITEMS = "validation_items"
SPLITS = (TRAIN, VALIDATION_QUERIES, VALIDATION_ITEMS)


def group_queries(queries: Sequence[str], edges: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Put together queries with the same bag of words and queries that an edge joins, transitively.

    Runs in one process, on distinct queries and strong edges only: some millions of each fit.

    Args:
        queries: Distinct queries.
        edges: Pairs of queries; an edge with an end outside `queries` is ignored.

    Returns:
        Query to the first query, in order of text, of its group.
    """
    parent = {query: query for query in queries}

    def root(query: str) -> str:
        while parent[query] != query:
            parent[query] = parent[parent[query]]
            query = parent[query]
        return query

    def join(a: str, b: str) -> None:
        first, second = sorted((root(a), root(b)))
        parent[second] = first

    of_bag: dict[tuple[str, ...], str] = {}
    for query in queries:
        join(query, of_bag.setdefault(tuple(sorted(split_words(query))), query))
    for a, b in edges:
        if a in parent and b in parent:
            join(a, b)
    return {query: root(query) for query in queries}


def hold_out_groups(rows: Mapping[str, int], shares: Mapping[str, float], *, seed: int) -> dict[str, str]:
    """Choose groups for the validation splits, in an order that the seed and the group's name decide.

    A split takes groups until it holds its share of the rows, passing over a group that would exceed it: no split is
    larger than asked for, and a group that holds much of the log trains.

    Args:
        rows: Group to its number of rows.
        shares: Validation split to its share of all rows, 0..1.
        seed: Another seed holds out other groups.

    Returns:
        Held-out group to its split; groups that are absent train.
    """
    in_order = sorted(rows, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    held_out: dict[str, str] = {}
    total = sum(rows.values())
    for split, share in shares.items():
        room = share * total
        for group in in_order:
            if group not in held_out and rows[group] <= room:
                held_out[group] = split
                room -= rows[group]
    return held_out
