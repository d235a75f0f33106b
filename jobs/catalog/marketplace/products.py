"""Which product is which: everything follows from (seed, item number), so any worker can derive any item by itself."""

import datetime as dt
import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from jobs.catalog.marketplace.titles import write_title
from jobs.catalog.marketplace.vocabulary import ATTRIBUTES, KINDS

FIRST_DAY, SECOND_DAY = 0, 1

# Photos that show no product; several items share the very same file.
CARDS = ("photo soon", "size chart", "sale")

_PHOTO_SHARES = {"shown": 0.84, "card": 0.12, "none": 0.015, "unknown": 0.005, "truncated": 0.02}
_CHANGE_SHARES = {
    "none": 0.85,
    "title": 0.04,
    "photo": 0.025,  # other bytes under the same name
    "photo_name": 0.015,  # other bytes under another name
    "photo_broken": 0.01,
    "price": 0.04,
    "delisted": 0.02,
}
_NEW_SHARE = 0.02
_IN_STOCK_SHARES = {FIRST_DAY: 0.92, SECOND_DAY: 0.9}  # a few sell out overnight

_WOMEN, _MEN = 0, 1
_NOT_FOR_MEN = [number for number, kind in enumerate(KINDS) if kind.name in ("dress", "skirt")]
_FLAW_SHARES = {"none": 0.994, "no_id": 0.002, "no_title": 0.002, "twice": 0.002}


@dataclass(frozen=True)
class Marketplace:
    """A catalog of `items` products on its first day, and what becomes of it on the second.

    Args:
        seed: Another seed gives another marketplace.
        items: Products of the first day, numbered from 0; the second day's new products follow.
        first_date: Date of the first snapshot; the second is the day after.
    """

    seed: int
    items: int
    first_date: dt.date

    @property
    def all_items(self) -> int:
        """Products of both days."""
        return self.items + max(1, round(self.items * _NEW_SHARE))

    def uniform(self, stream: str, index: np.ndarray) -> np.ndarray:
        """Numbers in [0, 1), one an index, independent between streams (SplitMix64: a counter-based generator)."""
        start = np.uint64((zlib.crc32(stream.encode()) << 32) ^ (self.seed & 0xFFFFFFFF))
        z = _mix(_mix(np.atleast_1d(np.asarray(index, np.uint64)) + np.uint64(1)) ^ start)
        return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def generator(self, stream: str, index: int) -> np.random.Generator:
        """As many random numbers as one item, session or query needs."""
        return np.random.default_rng([self.seed, zlib.crc32(stream.encode()), index])

    def truth(self, index: np.ndarray) -> pd.DataFrame:
        """What the products are: one row an item, the position in `ATTRIBUTES` of each of its attributes."""
        values = {
            name: _choose(self.uniform(name, index), [term.weight for term in terms]).astype(np.int8)
            for name, terms in ATTRIBUTES.items()
        }
        not_for_men = np.isin(values["kind"], _NOT_FOR_MEN) & (values["audience"] == _MEN)
        values["audience"] = np.where(not_for_men, _WOMEN, values["audience"])
        return pd.DataFrame(values)

    def listing(self, index: np.ndarray, day: int) -> pd.DataFrame:
        """How the products are listed on a day.

        Args:
            index: Item numbers.
            day: `FIRST_DAY` or `SECOND_DAY`.

        Returns:
            One row an item: `listed` (bool), `flaw` of its row (none, no_id, no_title, twice), `photo` (shown, card,
            none, unknown, truncated), `photo_version` (of the bytes), `photo_name` (0 or 1: which name they have),
            `full_title` (bool: written by a seller whose photo shows nothing), `title_version`, `price_version`,
            `in_stock` (bool).
        """
        index = np.asarray(index)
        new = index >= self.items
        change = _pick(self.uniform("change", index), _CHANGE_SHARES)
        change = np.where(new | (day == FIRST_DAY), "none", change)
        first_photo = _pick(self.uniform("photo", index), _PHOTO_SHARES)
        rephotographed = np.isin(change, ("photo", "photo_name"))
        photo = np.where(rephotographed, "shown", first_photo)
        photo = np.where(change == "photo_broken", "truncated", photo)
        flaw = _pick(self.uniform("flaw", index), _FLAW_SHARES)
        return pd.DataFrame(
            {
                "listed": np.where(new, day == SECOND_DAY, change != "delisted"),
                "flaw": flaw,
                "photo": photo,
                "photo_version": rephotographed.astype(int),
                "photo_name": (change == "photo_name").astype(int),
                "full_title": first_photo != "shown",
                "title_version": (change == "title").astype(int),
                "price_version": (change == "price").astype(int),
                "in_stock": self.uniform("in stock", index) < _IN_STOCK_SHARES[day],
            }
        )

    def on_sale(self, index: np.ndarray, day: int) -> np.ndarray:
        """Which products a shopper can find on that day: listed, with a row that an ingest accepts."""
        listing = self.listing(index, day)
        return (listing["listed"] & ~listing["flaw"].isin(["no_id", "no_title"])).to_numpy()

    def catalog_rows(self, index: np.ndarray, day: int) -> pd.DataFrame:
        """The snapshot's rows for those products: item_id, title, category, price, in_stock, image_uri, updated_at."""
        listing, truth = self.listing(index, day), self.truth(index)
        rows: list[dict[str, object]] = []
        for number, state, product in zip(index, listing.itertuples(), truth.itertuples(index=False), strict=True):
            if not state.listed:
                continue
            row = self._row(int(number), state, product._asdict())
            if state.flaw == "twice":
                rows.append({**row, "updated_at": row["updated_at"] - dt.timedelta(days=30)})
            rows.append(row)
        columns = ["item_id", "title", "category", "price", "in_stock", "image_uri", "updated_at"]
        return pd.DataFrame(rows, columns=columns)

    def _row(self, number: int, state: tuple, product: dict[str, int]) -> dict[str, object]:
        rng = self.generator(f"title {state.title_version}", number)
        kind = KINDS[product["kind"]]
        price = kind.price * float(np.exp(0.4 * self.generator("price", number).standard_normal()))
        changed = max(state.photo_version, state.title_version, state.price_version) or number >= self.items
        age_in_days = 0 if changed else 1 + int(self.uniform("age", number)[0] * 300)
        return {
            "item_id": None if state.flaw == "no_id" else item_id(number),
            "title": " " if state.flaw == "no_title" else write_title(product, rng, complete=state.full_title),
            "category": kind.category,
            "price": round(price * (0.9 if state.price_version else 1.0), 2),
            "in_stock": state.in_stock,
            "image_uri": None if state.photo == "none" else self.image_uri(number, state),
            "updated_at": dt.datetime.combine(self.first_date, dt.time(12)) - dt.timedelta(days=age_in_days),
        }

    def image_uri(self, number: int, state: tuple) -> str:
        """Name of the product's photo; the photo of an `unknown` one is in no store."""
        name = f"{number:07d}" + ("-b" if state.photo_name else "")
        return f"images/{name[:4]}/{name}.jpg"


def item_id(number: int) -> str:
    """The catalog's identifier of item `number`."""
    return f"P{number:07d}"


def _mix(z: np.ndarray) -> np.ndarray:
    z = z * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _choose(uniform: np.ndarray, weights: list[float]) -> np.ndarray:
    bounds = np.cumsum(weights) / np.sum(weights)
    return np.minimum(np.searchsorted(bounds, uniform, side="right"), len(weights) - 1)


def _pick(uniform: np.ndarray, shares: dict[str, float]) -> np.ndarray:
    return np.array(list(shares))[_choose(uniform, list(shares.values()))]
