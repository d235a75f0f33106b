"""Days and nights of a `DailyMarket` by the jobs alone, one after the other in the session of this process."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from types import ModuleType

from benchmarks.daily_market import DailyMarket
from benchmarks.lakes import run_in_session
from jobs.catalog import ingest as catalog_ingest
from jobs.core.lake import Lake
from jobs.embedding import items as embed_items
from jobs.embedding import queries as embed_queries
from jobs.index import build, check, publish
from jobs.query_log import ingest as log_ingest
from jobs.query_log import pairs
from jobs.training import build_set, evaluate, promote, train


def night_by_jobs(lake: Lake, market: DailyMarket, date: dt.date, judged: Mapping[str, str]) -> None:
    """A night's jobs up to its publication, in this process's session.

    Raises:
        RuntimeError: One did not succeed.
    """
    sources = {name.removeprefix("MAKE_").lower(): place for name, place in market.settings().items()}
    taken = {catalog_ingest: ("catalog", "images"), log_ingest: ("query_log",)}
    for job in (catalog_ingest, log_ingest, embed_items, embed_queries, build, check, publish):
        options = {name: sources[name] for name in taken.get(job, ())} | (judged if job is check else {})
        succeed(lake, job, date=date, **options)


def succeed(lake: Lake, job: ModuleType, **options: object) -> None:
    """Run a job in this process's session.

    Raises:
        RuntimeError: It did not succeed.
    """
    record = run_in_session(lake, job, **options)
    if record["verdict"] not in ("succeeded", "unchanged"):
        raise RuntimeError(f"{record['job']} {record['verdict']}: {record['notes']}")


def learn(lake: Lake, market: DailyMarket, dates: Sequence[dt.date], epochs: int) -> None:
    """Ingest those days and train a model on them, which is promoted."""
    sources = market.settings()
    for date in dates:
        places = {"catalog": sources["MAKE_CATALOG"], "images": sources["MAKE_IMAGES"]}
        succeed(lake, catalog_ingest, date=date, **places)
        succeed(lake, log_ingest, date=date, query_log=sources["MAKE_QUERY_LOG"])
    last = dates[-1]
    succeed(lake, pairs, date=last, window_days=len(dates))
    succeed(lake, build_set, date=last, row_group_size=128)
    succeed(lake, train, date=last, preset="tiny", epochs=epochs, batch_size=64)
    succeed(lake, evaluate, date=last, **market.judged)
    succeed(lake, promote, date=last)
