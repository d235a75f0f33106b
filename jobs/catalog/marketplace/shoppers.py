"""The query log: sessions of shoppers who see result pages, click what they notice and like, and sometimes buy."""

import datetime as dt
import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from jobs.catalog.marketplace.products import FIRST_DAY, SECOND_DAY, Marketplace, item_id
from jobs.catalog.marketplace.queries import Want, draw_want, phrase, type_in
from jobs.catalog.marketplace.vocabulary import JUNK_QUERIES, KINDS

LOG_COLUMNS = ("event_id", "event_ts", "session_id", "query", "item_id", "event_type", "position")

_PAGE = 10
_CANDIDATES = 120
_NOTICED = 1.0 / np.arange(1, _PAGE + 1) ** 0.8  # how often the item at a position is looked at
_CLICK_BY_MISSES = np.array([0.60, 0.10, 0.02])  # when it lacks none, one, more of what is wanted
_BUY_BY_MISSES = np.array([0.18, 0.04, 0.01])

_REPHRASED = 0.25
_JUNK = 0.006
_UNKNOWN_ITEM = 0.004
_FUTURE_CLOCK = 0.001
_DELIVERED_TWICE = 0.01
_ROBOT = 0.002
_ROBOT_CLICKS = 150


@dataclass(frozen=True)
class Shelf:
    """The products that can be found on one day, grouped by kind.

    Args:
        numbers: Item numbers, in order of kind.
        truth: Their attributes, (items, attributes) int8, in the order of `names`.
        starts: Where each kind starts in `numbers`; one more at the end.
        popularity: Larger is shown more often.
    """

    numbers: np.ndarray
    truth: np.ndarray
    names: list[str]
    starts: np.ndarray
    popularity: np.ndarray

    @classmethod
    def of(cls, market: Marketplace, day: int) -> "Shelf":
        """The shelf of that day."""
        numbers = np.arange(market.all_items)
        numbers = numbers[market.on_sale(numbers, day)]
        truth = market.truth(numbers)
        order = np.argsort(truth["kind"].to_numpy(), kind="stable")
        kinds = truth["kind"].to_numpy()[order]
        return cls(
            numbers=numbers[order],
            truth=truth.to_numpy()[order],
            names=list(truth.columns),
            starts=np.searchsorted(kinds, np.arange(len(KINDS) + 1)),
            popularity=market.uniform("popularity", numbers[order]),
        )

    def search(self, want: Want, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One page of results, as an engine would rank that knows the products fairly well.

        Returns:
            Item numbers, and how many of the wanted attributes each lacks; at most `_PAGE` of each.
        """
        first, end = self.starts[want["kind"]], self.starts[want["kind"] + 1]
        of_kind = np.unique(rng.integers(first, end, _CANDIDATES)) if end > first else np.array([], int)
        candidates = np.concatenate([of_kind, rng.integers(0, len(self.numbers), 8)])
        columns = [self.names.index(name) for name in want]
        misses = (self.truth[candidates][:, columns] != np.array(list(want.values()))).sum(axis=1)
        score = -misses + 0.6 * self.popularity[candidates] + rng.gumbel(0, 0.45, len(candidates))
        page = np.argsort(-score)[:_PAGE]
        return self.numbers[candidates[page]], misses[page]


@dataclass(frozen=True)
class Log:
    """Sessions over a window of days; all but the last of them before the second snapshot.

    Args:
        market: What is sold.
        sessions: In all, numbered in order of time.
        days: Days up to and including the first snapshot's date; the second's date follows.
    """

    market: Marketplace
    sessions: int
    days: int

    def sessions_by(self, day: int) -> range:
        """The sessions that the log of a day brings: on the first day those of all days so far, then the day's own."""
        first_of_second_day = -(-self.days * self.sessions // (self.days + 1))
        return range(first_of_second_day) if day == FIRST_DAY else range(first_of_second_day, self.sessions)

    def events(self, sessions: np.ndarray, shelves: dict[int, Shelf]) -> pd.DataFrame:
        """Everything that those sessions sent, as `LOG_COLUMNS`."""
        rows = [row for session in sessions for row in self._session(int(session), shelves)]
        return pd.DataFrame(rows, columns=list(LOG_COLUMNS))

    def _session(self, number: int, shelves: dict[int, Shelf]) -> list[tuple]:
        rng = self.market.generator("session", number)
        day = number * (self.days + 1) // self.sessions
        shelf = shelves[SECOND_DAY if day == self.days else FIRST_DAY]
        midnight = dt.datetime.combine(self.market.first_date + dt.timedelta(days=day - self.days + 1), dt.time())
        visit = _Visit(f"s{self.market.seed}-{number}", midnight + dt.timedelta(seconds=rng.uniform(0, 86_000)))
        want = draw_want(self.market, rng)
        if rng.random() < _ROBOT:
            robot = replace(visit, session_id=f"s-robot-{day}")
            return robot.click_everything(type_in(phrase(want, rng), rng), want, shelf, rng)
        if rng.random() < _JUNK:
            return visit.look(JUNK_QUERIES[rng.integers(len(JUNK_QUERIES))], want, shelf, rng)
        rows = visit.look(type_in(phrase(want, rng), rng), want, shelf, rng)
        if rng.random() < _REPHRASED:
            later = replace(visit, start=visit.start + dt.timedelta(seconds=rng.uniform(40, 300)))
            rows += later.look(type_in(phrase(want, rng), rng), want, shelf, rng)
        return [row for sent in rows for row in _deliver(sent, rng)]


@dataclass(frozen=True)
class _Visit:
    session_id: str
    start: dt.datetime

    def look(self, query: str | None, want: Want, shelf: Shelf, rng: np.random.Generator) -> list[tuple]:
        """See one page of results; click and buy."""
        items, misses = shelf.search(want, rng)
        misses = np.minimum(misses, len(_CLICK_BY_MISSES) - 1)
        chances = rng.random((2, len(items)))
        clicked = chances[0] < _NOTICED[: len(items)] * _CLICK_BY_MISSES[misses]
        bought = clicked & (chances[1] < _BUY_BY_MISSES[misses])
        rows = []
        for position, number in enumerate(items, start=1):
            rows.append(self._event(query, number, "impression", position, after=0))
            if clicked[position - 1]:
                rows.append(self._event(query, number, "click", position, after=4 + 7 * position))
            if bought[position - 1]:
                rows.append(self._event(query, number, "purchase", position, after=120 + 20 * position))
        return rows

    def click_everything(self, query: str, want: Want, shelf: Shelf, rng: np.random.Generator) -> list[tuple]:
        """What a robot does: a click a second, on anything, and never a page looked at."""
        pages = [shelf.search(want, rng)[0] for _ in range(_ROBOT_CLICKS // _PAGE)]
        numbers = np.concatenate(pages)
        return [
            self._event(query, number, "click", 1 + at % _PAGE, after=at + rng.random())
            for at, number in enumerate(numbers)
        ]

    def _event(self, query: str | None, number: int, event_type: str, position: int, *, after: float) -> tuple:
        moment = self.start + dt.timedelta(seconds=after)
        identity = f"{self.session_id}|{moment.isoformat()}|{number}|{event_type}|{position}"
        event_id = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
        return event_id, moment, self.session_id, query, item_id(number), event_type, position


def _deliver(event: tuple, rng: np.random.Generator) -> list[tuple]:
    """An event as it arrives: sometimes twice, for an item of long ago, or from a clock that runs ahead."""
    luck = rng.random()
    if luck < _DELIVERED_TWICE:
        return [event, event]
    values = dict(zip(LOG_COLUMNS, event, strict=True))
    if luck < _DELIVERED_TWICE + _UNKNOWN_ITEM:
        values["item_id"] = f"P-gone-{rng.integers(1000)}"
    elif luck < _DELIVERED_TWICE + _UNKNOWN_ITEM + _FUTURE_CLOCK:
        values["event_ts"] += dt.timedelta(days=30)
    return [tuple(values.values())]
