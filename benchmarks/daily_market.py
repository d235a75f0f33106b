"""A made-up marketplace that changes from day to day, delivered a day at a time: `<date>/catalog`, `<date>/query_log`.

The generator of `make demo` draws products, photos and shoppers; what then happens to the catalog is drawn here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.lakes import run_in_session
from jobs.catalog import generate
from jobs.core.lake import Lake

# Of the items on sale, how many change their title, price and photo from one day to the next, and go.
_TITLES, _PRICES, _PHOTOS, _GONE = 0.05, 0.03, 0.02, 0.02
# As a share of the same: new products, which look like some that there are.
_NEW = 0.03


class DailyMarket:
    """The same arguments give the same files.

    Args:
        folder: Where everything is delivered.
        dates: Consecutive.
        seed: Another one gives other products, shoppers and changes.
    """

    def __init__(self, folder: Path, dates: Sequence[dt.date], seed: int) -> None:
        self.folder, self.dates, self._seed = folder, dates, seed

    def settings(self) -> dict[str, str]:
        """What the jobs of a night read, as they are told by their environment."""
        return {
            "MAKE_CATALOG": str(self.folder / "{date}" / "catalog"),
            "MAKE_IMAGES": str(self.folder / "photos"),
            "MAKE_QUERY_LOG": str(self.folder / "{date}" / "query_log"),
        }

    @property
    def judged(self) -> dict[str, str]:
        """Judged queries and their judgments, as options of the jobs that measure."""
        return {name: str(self.folder / f"{name}.parquet") for name in ("judged_queries", "judgments")}

    def delivery(self, date: dt.date, what: str) -> Path:
        """The file of a date's `catalog` or `query_log`."""
        return self.folder / f"{date}" / what / "part-0.parquet"

    def deliver(self, lake: Lake, items: int) -> None:
        """Draw everything.

        Args:
            lake: Whose record of runs the generator's run is put into.
            items: On sale on the first date.
        """
        drawn, last = self.folder / "drawn", self.dates[-1]
        options = {"items": items, "days": len(self.dates), "date": last, "seed": self._seed}
        record = run_in_session(lake, generate, output=str(drawn), **options)
        if record["verdict"] != "succeeded":
            raise RuntimeError(f"catalog generate {record['verdict']}: {record['notes']}")
        for name in self.judged:
            (drawn / f"{name}.parquet").rename(self.folder / f"{name}.parquet")
        (drawn / f"{last}" / "images").rename(self.folder / "photos")
        catalog = pd.read_parquet(drawn / f"{last}" / "catalog")
        log = pd.read_parquet(drawn / f"{last}" / "query_log")
        # What has no time, or one that cannot be, came on the first day.
        came = pd.to_datetime(log["event_ts"], errors="coerce").dt.date.where(lambda day: day.isin(self.dates))
        came = came.fillna(self.dates[0])
        for date in self.dates:
            for what, rows in (("catalog", catalog), ("query_log", log[came == date])):
                self.delivery(date, what).parent.mkdir(parents=True)
                rows.to_parquet(self.delivery(date, what), index=False, coerce_timestamps="us")
            catalog = self._next_day(catalog, date)

    def _next_day(self, catalog: pd.DataFrame, date: dt.date) -> pd.DataFrame:
        random = np.random.default_rng([self._seed, date.toordinal()])
        rows, count = catalog.copy(), len(catalog)

        def some(share: float) -> np.ndarray:
            return random.choice(count, round(share * count), replace=False)

        title, price, photo = (rows.columns.get_loc(name) for name in ("title", "price", "image_uri"))
        changed, dearer, shown, gone, like = (some(share) for share in (_TITLES, _PRICES, _PHOTOS, _GONE, _NEW))
        new = rows.iloc[like].assign(item_id=[f"new-{date:%m%d}-{number}" for number in range(len(like))])
        rows.iloc[changed, title] = rows.iloc[changed, title].astype(str) + f" {date:%d}"
        rows.iloc[dearer, price] *= 1.1
        rows.iloc[shown, photo] = random.permutation(rows.iloc[shown, photo].to_numpy())
        return pd.concat([rows.drop(rows.index[gone]), new], ignore_index=True)
