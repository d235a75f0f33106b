"""What models are measured on: a catalog, and queries with what they should find in it.  Parquet alone, no Spark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.training.slices import JudgedQuery, RelevantItem
from models.encoder import Encoder
from models.training.validation import SPLITS

ITEMS_AT_ONCE = 1024
# The deepest rank that a measure looks at.
DEPTH = 100


@dataclass(frozen=True)
class Catalog:
    """Every item that may be found.

    Attributes:
        item_ids: (items,) strings.
        titles: one an item.
        photos: binary, one an item, null without one.
    """

    item_ids: np.ndarray
    titles: list[str]
    photos: pa.ChunkedArray
    positions: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", {item_id: place for place, item_id in enumerate(self.item_ids)})
        if len(self.positions) != len(self.item_ids):
            raise ValueError(
                f"catalog: {len(self.item_ids) - len(self.positions)} ids come twice; give each item once."
            )

    def without_photos(self) -> Catalog:
        """The same items, to be told by their titles alone."""
        return replace(self, photos=pa.chunked_array([pa.nulls(len(self.titles), pa.binary())]))

    def take(self, places: Sequence[int]) -> Catalog:
        """The items at these positions."""
        titles = [self.titles[place] for place in places]
        return Catalog(item_ids=self.item_ids[places], titles=titles, photos=self.photos.take(places))

    def embed(self, encoder: Encoder) -> np.ndarray:
        """(items, dim) unit vectors, a slice of the catalog decoded at a time."""
        return np.concatenate([encoder.embed_items(encoder.prepare_items(*part)).embedding for part in self._parts()])

    def _parts(self) -> Iterator[tuple[list[str], list[bytes | None]]]:
        for start in range(0, len(self.titles), ITEMS_AT_ONCE):
            photos = self.photos.slice(start, ITEMS_AT_ONCE).to_pylist()
            yield self.titles[start : start + ITEMS_AT_ONCE], photos

    def best(self, scores: np.ndarray, *, hidden: list[int] | None = None) -> list[str]:
        """The ids of the `DEPTH` highest of (items,) scores, best first, without the items at `hidden` positions."""
        if hidden:
            scores = scores.copy()
            scores[hidden] = -np.inf
        top = np.argpartition(-scores, min(DEPTH, len(scores)) - 1)[:DEPTH]
        top.sort()  # equal scores keep the catalog's order
        return self.item_ids[top[np.argsort(-scores[top], kind="stable")]].tolist()


def read_catalog(catalog: Path, images: Path) -> Catalog:
    """Join titles with photos.

    Args:
        catalog: Parquet of item_id, title, image_uri.
        images: Parquet of image_uri, content.
    """
    items = pq.read_table(catalog, columns=["item_id", "title", "image_uri"])
    photos = pq.read_table(images, columns=["image_uri", "content"])
    places = pc.index_in(items["image_uri"], value_set=photos["image_uri"].combine_chunks(), skip_nulls=True)
    return Catalog(
        item_ids=np.array(items["item_id"].cast(pa.string()).to_pylist(), dtype=object),
        titles=items["title"].fill_null("").to_pylist(),
        photos=photos["content"].take(places),
    )


def read_judged(queries: Path, judgments: Path, catalog: Catalog) -> list[JudgedQuery]:
    """The judged queries that have a relevant item in the catalog, in order of query_id.

    Args:
        queries: Parquet of query_id, query and, where known, wording.
        judgments: Parquet of query_id, item_id and, where known, cold: whether the log never shows the item.
    """
    relevant: dict[str, dict[str, RelevantItem]] = {}
    for row in pq.read_table(judgments).to_pylist():
        place = catalog.positions.get(str(row["item_id"]))
        if place is not None:
            # No log is read here, so head and tail are not told apart.
            traffic = "none" if row.get("cold", False) else "tail"
            item = RelevantItem(catalog.titles[place], category=None, traffic=traffic)
            relevant.setdefault(str(row["query_id"]), {})[str(row["item_id"])] = item
    asked = sorted(pq.read_table(queries).to_pylist(), key=lambda row: str(row["query_id"]))
    return [
        JudgedQuery(
            query_id=str(row["query_id"]),
            query=row["query"],
            attributes={"wording": row["wording"]} if "wording" in row else {},
            relevant=relevant[str(row["query_id"])],
        )
        for row in asked
        if str(row["query_id"]) in relevant
    ]


@dataclass(frozen=True)
class HeldOutQuery:
    """A query of a training set's validation splits.

    Attributes:
        relevant: ids of the products that its held-out clicks led to.
        hidden: positions in the catalog of what else it clicked, which training saw: neither a hit nor in the way.
    """

    query: str
    relevant: set[str]
    hidden: list[int]


def read_held_out(training_set: Path, catalog: Catalog) -> list[HeldOutQuery]:
    """The validation splits, to be searched in the whole catalog."""
    held_out = [path for split in SPLITS for path in sorted((training_set / split).glob("*.parquet"))]
    ids = {}
    for path in [*(training_set / "train").glob("*.parquet"), *held_out]:
        keys = pq.read_table(path, columns=["item_key", "item_id"])
        ids.update(zip(keys["item_key"].to_pylist(), keys["item_id"].to_pylist(), strict=True))
    relevant: dict[str, set[str]] = {}
    clicked: dict[str, set[str]] = {}
    for path in held_out:
        for row in pq.read_table(path, columns=["query", "item_id", "clicked_items"]).to_pylist():
            if row["item_id"] in catalog.positions:
                relevant.setdefault(row["query"], set()).add(row["item_id"])
                clicked.setdefault(row["query"], set()).update(ids[key] for key in row["clicked_items"] if key in ids)
    return [
        HeldOutQuery(
            query,
            items,
            [catalog.positions[item] for item in clicked[query] - items if item in catalog.positions],
        )
        for query, items in relevant.items()
    ]
