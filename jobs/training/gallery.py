"""Items as training's pages show them: photo, title and a note."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pyspark.sql import functions as F

from jobs.core.lake import Lake
from jobs.core.pages import thumbnails
from schemas import ITEM_IMAGES, ITEMS


@dataclass(frozen=True)
class Card:
    """An item with what is said about it.

    Args:
        photo: A data URI; None without a readable photo.
        note: A word or two below the title.
        is_good: Whether the note is praise.
    """

    item_id: str
    title: str
    photo: str | None
    note: str
    is_good: bool


class Gallery:
    """Titles and photos of the items that a page shows; read once, and by key.

    Args:
        lake: The lake.
        item_ids: All that cards are wanted of.
    """

    def __init__(self, lake: Lake, item_ids: Collection[str]) -> None:
        rows = lake.read(ITEMS).where(F.col("item_id").isin(*sorted(item_ids)))
        self._items = {row["item_id"]: row for row in rows.select("item_id", "title", "image_sha256").collect()}
        self._photos = thumbnails(
            lake.read(ITEM_IMAGES), {row["image_sha256"] for row in self._items.values()} - {None}
        )

    def card(self, item_id: str, note: str, *, is_good: bool = False) -> Card:
        """The item with a note."""
        item = self._items[item_id]
        return Card(item_id, item["title"], self._photos.get(item["image_sha256"]), note, is_good)

    def result(self, item_id: str, relevant: Collection[str]) -> Card:
        """The item as a query's result, with whether it answers the query."""
        is_relevant = item_id in relevant
        return self.card(item_id, "✓ relevant" if is_relevant else "not judged relevant", is_good=is_relevant)
