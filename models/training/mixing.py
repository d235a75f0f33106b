"""The order in which rows train: at random, but products that share a word side by side."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from models.training.reader import Row


class MixingBuffer:
    """Rows that wait for a batch, in groups whose rows have the same `Row.term_key`.

    A batch is made of whole groups, so that a product stands against others of its brand, its kind or its colour, and
    not only against what any word tells apart.

    Args:
        group_rows: the largest group; 1 mixes single rows.
        random: decides which groups are drawn.
    """

    def __init__(self, group_rows: int, random: np.random.Generator) -> None:
        self._group_rows, self._random = group_rows, random
        self._groups: list[list[Row]] = []
        self._open: dict[int, list[Row]] = {}  # of each term, the group that has room
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def extend(self, rows: Iterable[Row]) -> None:
        """Add rows, each to the group of its term that has room, or to a new one."""
        for row in rows:
            group = self._open.get(row.term_key)
            if group is None:
                group = self._open[row.term_key] = []
                self._groups.append(group)
            group.append(row)
            if len(group) == self._group_rows:
                del self._open[row.term_key]
            self._rows += 1

    def draw(self, count: int) -> list[Row]:
        """Take `count` rows out, groups at random; of the last one, what is too much stays."""
        drawn: list[Row] = []
        while len(drawn) < count:
            place = int(self._random.integers(len(self._groups)))
            self._groups[place], self._groups[-1] = self._groups[-1], self._groups[place]
            group = self._groups.pop()
            if self._open.get(group[0].term_key) is group:
                del self._open[group[0].term_key]
            drawn += group
        if len(drawn) > count:
            self._groups.append(drawn[count:])
        self._rows -= count
        return drawn[:count]

    def rows(self) -> list[Row]:
        """Those that wait."""
        return [row for group in self._groups for row in group]
