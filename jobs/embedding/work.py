"""What a night has to embed, and why.

The truth is a comparison of hashes: an active item is work when the model has no vector for its present content.  The
change data feed of `items` only makes it cheaper, by naming the items that may have become work since the last run.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial, reduce

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.core.frames import at_once, persisted, small
from jobs.core.job import JobRun
from jobs.core.lake import Lake
from schemas import EMBEDDING_FAILURES, ITEM_EMBEDDINGS, ITEMS, JOB_RUNS

# Why an item is work: one of these.
REASONS = ("new", "title_changed", "photo_changed", "title_and_photo_changed", "model_changed", "retry")
# Of these, what may have no vector of the model yet, so that its vector replaces none.
_ADDING_REASONS = ("new", "model_changed", "retry")


def replaced_vectors(by_reason: Mapping[str, float]) -> float:
    """How many of the items that are work have a vector of the model already, by how many there are for each reason."""
    return sum(count for reason, count in by_reason.items() if reason not in _ADDING_REASONS)


def stale_items(
    items: DataFrame, embeddings: DataFrame, *, model_version: str, may_lie_elsewhere: bool = True
) -> DataFrame:
    """Active items with no vector of this model for their present content: the columns of `items`, and reason.

    Args:
        items: Rows of `items`.
        embeddings: Rows of `item_embeddings`, of any model.
        model_version: The model.
        may_lie_elsewhere: Whether an item without any vector of the model may have one of another; such an item is
            `model_changed`, others are `new`.
    """
    is_of_model = F.col("model_version") == model_version
    embedded = embeddings.where(is_of_model).select("item_id", F.col("content_hash").alias("embedded_content"))
    stale = (
        items.where("is_active")
        .join(embedded, on="item_id", how="left")
        .where(~F.col("content_hash").eqNullSafe(F.col("embedded_content")))
        .withColumn("is_elsewhere", F.lit(False))
    )
    if may_lie_elsewhere:
        elsewhere = embeddings.where(~is_of_model).select("item_id", F.lit(True).alias("is_elsewhere")).distinct()
        stale = stale.drop("is_elsewhere").join(elsewhere, on="item_id", how="left")
    title, photo = (_half("content_hash", half) != _half("embedded_content", half) for half in (1, -1))
    reason = (
        F.when(F.col("embedded_content").isNull() & F.col("is_elsewhere"), "model_changed")
        .when(F.col("embedded_content").isNull(), "new")
        .when(title & photo, "title_and_photo_changed")
        .when(title, "title_changed")
        .otherwise("photo_changed")
    )
    return stale.withColumn("reason", reason).drop("embedded_content", "is_elsewhere")


def _half(content_hash: str, half: int) -> Column:
    """The title's half (1) or the photo's (-1) of a content hash."""
    return F.substring_index(content_hash, ".", half)


def without_spent_retries(
    stale: DataFrame, failures: DataFrame, *, model_version: str, date: dt.date, max_attempts: int
) -> DataFrame:
    """Leave out items that failed with this content too often, or today already (one attempt a logical date)."""
    failed = failures.where(F.col("model_version") == model_version)
    failed = failed.select("item_id", "content_hash", "attempts", "last_attempt")
    is_spent = (F.col("attempts") >= max_attempts) | (F.col("last_attempt") >= F.lit(date))
    return (
        stale.join(failed, on=["item_id", "content_hash"], how="left")
        .where(~F.coalesce(is_spent, F.lit(False)))
        .withColumn("reason", F.when(F.col("attempts").isNotNull(), "retry").otherwise(F.col("reason")))
        .drop("attempts", "last_attempt")
    )


@dataclass(frozen=True)
class Position:
    """Where a run that embedded all there was to embed left off, as it recorded it.

    Attributes:
        items_version: The version of `items` all of whose work it did, or recorded as failed.
        vectors: How many vectors the model had then.
    """

    items_version: int
    vectors: int


def last_position(lake: Lake, model_version: str) -> Position | None:
    """Where the newest run under this model left off; None when there is none."""
    done = (
        lake.read(JOB_RUNS)
        .where("job IN ('embedding items', 'embedding backfill') AND verdict IN ('succeeded', 'unchanged')")
        .where(F.get_json_object("arguments", "$.model_version") == model_version)
        .where("figures['items_version'] IS NOT NULL AND figures['vectors'] IS NOT NULL")
        .orderBy(F.desc("finished_at"))
        .first()
    )
    return Position(int(done["figures"]["items_version"]), int(done["figures"]["vectors"])) if done else None


class FeedGoneError(Exception):
    """The change data feed cannot say what changed since the last run; the message says why."""


@contextmanager
def possible_work(
    lake: Lake, failed: DataFrame | None, *, since: Position, now: Position
) -> Iterator[DataFrame | None]:
    """Items that may have become work since the last run: item_id, once each, fit to be joined; None without any.

    Args:
        lake: The lake.
        failed: item_id of the model's failures, which are tried again whether or not they changed; None without any.
        since: Where the last run left off.
        now: The tables as they are.

    Raises:
        FeedGoneError: Vectors went missing since, or the feed does not reach back to the last run.
    """
    if now.vectors < since.vectors:
        raise FeedGoneError(f"there are {now.vectors:,} vectors, and the last run left {since.vectors:,}")
    if now.items_version < since.items_version:
        raise FeedGoneError(f"items is at version {now.items_version}, and the last run read {since.items_version}")
    may_be = [failed] if failed is not None else []
    if now.items_version > since.items_version:
        with feed_errors(since):
            may_be.append(lake.changes(ITEMS, after=since.items_version, until=now.items_version).select("item_id"))
    if not may_be:
        yield None
        return
    with persisted(reduce(DataFrame.unionByName, may_be).distinct()) as possible:
        with feed_errors(since):
            count = possible.count()
        yield small(possible, count) if count else None


@contextmanager
def feed_errors(since: Position) -> Iterator[None]:
    """Turn what naming or reading the feed raises into a `FeedGoneError`."""
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:  # some of Delta's exceptions come as they are
        named = re.search(r"\[([A-Z][A-Z0-9_.]+)\]", str(error))
        raise FeedGoneError(
            f"the change data feed of items does not reach back to version {since.items_version} "
            f"({named[1] if named else type(error).__name__})"
        ) from error


@dataclass(frozen=True)
class Work:
    """What a run has to embed.

    Attributes:
        rows: The columns of `items`, and reason; found once and kept, whatever is written meanwhile.
        by_reason: How many there are for each reason that occurs.
        active_items: Active items in all.
        known_failures: Failures of the model, whether or not they are tried again.
        position: The tables that it was found in.
    """

    rows: DataFrame
    by_reason: dict[str, int]
    active_items: int
    known_failures: int
    position: Position

    @property
    def total(self) -> int:
        """How many items that is."""
        return sum(self.by_reason.values())


@contextmanager
def find_work(
    job: JobRun, *, model_version: str, date: dt.date, max_attempts: int, full_comparison: bool
) -> Iterator[Work]:
    """Compare items with vectors: those that changed since the last run, or all of them.

    Args:
        job: The run; it notes why all were compared where the change data feed could not say what changed.
        model_version: The model.
        date: The run's date; an item that failed on it already is left out.
        max_attempts: Nights after which a failing item is left out.
        full_comparison: Compare all items, whatever the feed says.
    """
    lake, is_of_model = job.lake, F.col("model_version") == model_version
    # Of a version each, so that a frame that is computed again, after a merge or a lost worker, is the same.
    versions = lake.versions(ITEMS, ITEM_EMBEDDINGS, EMBEDDING_FAILURES)
    items, embeddings, failures = (
        lake.read(table, versions[table.name]) for table in (ITEMS, ITEM_EMBEDDINGS, EMBEDDING_FAILURES)
    )
    failures = failures.where(is_of_model)
    since, active_items, vectors, known_failures = at_once(
        lambda: None if full_comparison else last_position(lake, model_version),
        items.where("is_active").count,
        embeddings.where(is_of_model).count,
        failures.count,
    )
    position = Position(versions[ITEMS.name], vectors)
    found = partial(Work, active_items=active_items, known_failures=known_failures, position=position)
    with ExitStack() as stack:
        if since is not None:
            failed = failures.select("item_id") if known_failures else None
            try:
                possible = stack.enter_context(possible_work(lake, failed, since=since, now=position))
            except FeedGoneError as gone:
                job.note(f"all items were compared with all vectors: {gone}")
                since = None
            else:
                if possible is None:
                    yield found(rows=items.limit(0).withColumn("reason", F.lit(None).cast("string")), by_reason={})
                    return
                items = items.join(possible, on="item_id", how="left_semi")
        wanted = stale_items(items, embeddings, model_version=model_version, may_lie_elsewhere=since is None)
        if known_failures:
            wanted = without_spent_retries(
                wanted, failures, model_version=model_version, date=date, max_attempts=max_attempts
            )
        rows = stack.enter_context(persisted(wanted))
        counts = {row["reason"]: row["count"] for row in rows.groupBy("reason").count().collect()}
        yield found(rows=rows, by_reason={reason: counts[reason] for reason in REASONS if reason in counts})
