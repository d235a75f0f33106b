"""What is known to be relevant, and so is nobody's negative: pairs of queries and products of any two batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from models.make.objective_settings import ObjectiveSettings

# A named tuple of tensors, of which each has a row, or a list of any length, a query or an item.
Facts = TypeVar("Facts", bound=tuple[Tensor, ...])


class ItemFacts(NamedTuple):
    """What the masks read of products.

    Attributes:
        item_keys: (items,) int64, may repeat.
        title_keys: (items,) int64, equal for equal titles.
        photo_keys: (items,) int64, equal for equal photos; 0 without a photo.
        log_queries: (items,) int64: queries of its batch that belong to the product and are of the log.
    """

    item_keys: Tensor
    title_keys: Tensor
    photo_keys: Tensor
    log_queries: Tensor


class QueryFacts(NamedTuple):
    """What the masks read of queries.

    The lists of all queries lie one after the other, and the counts, which sum to their length, say how much is whose.

    Attributes:
        title_keys, photo_keys: (queries,) of the product that a query belongs to, as in `ItemFacts`.
        of_log: (queries,) bool: some of its words are the log's, and not of the product's title.
        clicked_items, clicked_counts: int64 keys of the items that the query's log clicked; int64 (queries,).
        neighbor_items, neighbor_counts: likewise of the items that similar queries clicked.
    """

    title_keys: Tensor
    photo_keys: Tensor
    of_log: Tensor
    clicked_items: Tensor
    clicked_counts: Tensor
    neighbor_items: Tensor
    neighbor_counts: Tensor


class PairMasks(NamedTuple):
    """What is known of pairs, each (queries, items), and bool unless said otherwise.

    Attributes:
        relevant: the query's log clicked the item, or the item shares title or photo with the query's own.
        neighbors: a query similar to the query clicked the item.
        occurrences: int16: how often the item stands against the query: one of the log as often as the log leads to
            it, which may be never, any other once.
    """

    relevant: Tensor
    neighbors: Tensor
    occurrences: Tensor

    def ignored(self, settings: ObjectiveSettings) -> Tensor:
        """(queries, items) bool: the pairs that are no negatives."""
        ignored = self.relevant | self.neighbors if settings.neighbor_mask else self.relevant
        return ignored | (self.occurrences == 0) if settings.match_popularity else ignored

    def counts(self, settings: ObjectiveSettings) -> Tensor:
        """(queries, items) int16, positive: how often an item that is a negative counts among a query's."""
        return self.occurrences.clamp(min=1) if settings.match_popularity else torch.ones_like(self.occurrences)


def pair_masks(queries: QueryFacts, items: ItemFacts) -> PairMasks:
    """What is known of each query with each item; they may come from different batches."""
    clicked = listed_items(items.item_keys, queries.clicked_items, queries.clicked_counts)
    return PairMasks(
        relevant=clicked | same_product(queries, items),
        neighbors=listed_items(items.item_keys, queries.neighbor_items, queries.neighbor_counts),
        occurrences=torch.where(queries.of_log[:, None], items.log_queries.to(torch.int16), 1),
    )


def listed_items(item_keys: Tensor, listed: Tensor, counts: Tensor) -> Tensor:
    """Which items stand in each query's list.

    Args:
        item_keys: (items,) int64, may repeat.
        listed: int64 item keys, the queries' lists one after the other.
        counts: (queries,) int64: how long each list is.

    Returns:
        (queries, items) bool; [i, j] says that `item_keys[j]` is in list i.
    """
    keys, order = item_keys.sort(stable=True)
    places = torch.searchsorted(keys, listed).clamp(max=len(keys) - 1)
    hits = keys[places] == listed
    rows = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    found = torch.zeros(len(counts), len(keys), dtype=torch.bool, device=counts.device)
    found[rows[hits], order[places[hits]]] = True
    # Of items with one key the first was found.
    first = order[torch.searchsorted(keys, item_keys)]
    again = (first != torch.arange(len(first), device=first.device)).nonzero().squeeze(1)
    found[:, again] = found[:, first[again]]
    return found


def same_product(rows: QueryFacts | ItemFacts, columns: QueryFacts | ItemFacts) -> Tensor:
    """(rows, columns) bool: equal title, or equal photo; a photo key of 0 means no photo and equals nothing."""
    same_photo = (rows.photo_keys[:, None] == columns.photo_keys) & (rows.photo_keys[:, None] != 0)
    return (rows.title_keys[:, None] == columns.title_keys) | same_photo


def joined(parts: Sequence[Facts]) -> Facts:
    """Named tuples of tensors as one, row after row."""
    return type(parts[0])(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
