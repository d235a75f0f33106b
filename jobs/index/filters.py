"""Which items of a build a search may find, by what the build says of them beside their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.index.searcher import Searcher


@dataclass(frozen=True)
class ItemFilter:
    """Conditions that an item has to meet, all of them; what is not known of an item meets no condition on it.

    Args:
        category: Its category.
        min_price, max_price: Bounds of its price, both included.
        in_stock: Whether it could be bought when the build was made.
        item_ids: It is one of these.
    """

    category: str | None = None
    min_price: float | None = None
    max_price: float | None = None
    in_stock: bool | None = None
    item_ids: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.item_ids is not None:  # in a form that can be looked up by
            object.__setattr__(self, "item_ids", tuple(self.item_ids))

    def rows_of(self, searcher: Searcher) -> np.ndarray | None:
        """(rows,) bool: the rows of a build whose items meet the conditions; None without any condition."""
        conditions: dict[str, list[pc.Expression]] = {"category": [], "price": [], "in_stock": [], "item_id": []}
        if self.category is not None:
            conditions["category"].append(pc.field("category") == self.category)
        if self.min_price is not None:
            conditions["price"].append(pc.field("price") >= self.min_price)
        if self.max_price is not None:
            conditions["price"].append(pc.field("price") <= self.max_price)
        if self.in_stock is not None:
            conditions["in_stock"].append(pc.field("in_stock") == self.in_stock)
        if self.item_ids is not None:
            conditions["item_id"].append(pc.field("item_id").isin(pa.array(self.item_ids, pa.string())))
        columns = [name for name, named in conditions.items() if named]
        if not columns:
            return None
        items = searcher.items(columns).append_column("row", pa.array(np.arange(len(searcher))))
        named = [condition for name in columns for condition in conditions[name]]
        allowed = np.zeros(len(searcher), dtype=bool)
        allowed[items.filter(reduce(pc.Expression.__and__, named))["row"].to_numpy()] = True
        return allowed
