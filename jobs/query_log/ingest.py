"""Clean the query log of a date, or of a range of dates, into query_events.

Reads:  the log (Parquet, CSV, JSON lines or Delta), items, forgotten_items, query_events of other dates
Writes: query_events, rejected_rows

A run owns the events dated `--start` to `--end`, UTC.  The source must hold those dates whole: a run replaces them.
Events of other dates up to the horizon are other runs' business and are left unread; the horizon is the logical date
or, when an old date is run again, the newest date that the lake has.  Rows that no date owns, being later than the
horizon or without a readable time, belong to the run that includes the logical date.  Each refused row is recorded
under the date that owns it.  So one run over a range and runs over its parts, all of the same logical date, leave the
same tables.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from jobs.core.forgotten import FORGOTTEN_ITEM, forgotten_ids, forgotten_item
from jobs.core.job import DatedOptions, JobRun, main
from jobs.core.options import DailySource
from jobs.core.sources import MALFORMED, identifier_of, read_source, timestamp_of
from jobs.query_log.normalize import normalize_query
from schemas import ITEMS, QUERY_EVENTS, REJECTED_ROWS

REQUIRED = ("event_id", "event_ts", "session_id", "query", "item_id", "event_type")
OPTIONAL = ("position",)
EVENT_TYPES = ("impression", "click", "purchase")
SOURCE = "query_log"


class Options(DatedOptions):
    """Clean the query log of a date, or of a range of dates, into query_events."""

    query_log: DailySource = Field(
        description="The log: Parquet, CSV, JSON lines or a Delta table; {date} is the date."
    )
    start: dt.date | None = Field(None, description="First event date to take; the last one when absent.")
    end: dt.date | None = Field(None, description="Last event date to take; the logical date when absent.")
    robot_events: int = Field(300, ge=1, description="A session with more events than this on one date is a robot.")
    max_query_chars: int = Field(200, ge=1, description="A longer query, in characters, is refused.")

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        if not self.first_date <= self.last_date <= self.date:
            raise ValueError(
                f"expected --start <= --end <= --date, got {self.first_date}, {self.last_date} and {self.date}"
            )
        return self

    @property
    def last_date(self) -> dt.date:
        """Last event date of the run."""
        return self.end or self.date

    @property
    def first_date(self) -> dt.date:
        """First event date of the run."""
        return self.start or self.last_date


def parse_events(raw: DataFrame) -> DataFrame:
    """Give every column its type and the query its normal form; whatever cannot be read becomes null.

    Args:
        raw: The log as it came, with `_malformed`.

    Returns:
        The columns of query_events; `bad_position`, whether a position came that is no whole number from 1; and
        `source`, the row as it came.
    """
    kinds = {field.name: field.dataType for field in raw.schema}
    event_ts = timestamp_of("event_ts", kinds["event_ts"])
    number = F.col("position").try_cast("double")
    is_rank = (number == F.floor(number)) & number.between(1, 2**31 - 1)
    position = F.when(is_rank, number.try_cast("int"))
    return raw.select(
        identifier_of("event_id", kinds["event_id"]).alias("event_id"),
        F.to_date(event_ts).alias("event_date"),
        event_ts.alias("event_ts"),
        identifier_of("session_id", kinds["session_id"]).alias("session_id"),
        normalize_query(F.col("query").cast("string")).alias("query"),
        identifier_of("item_id", kinds["item_id"]).alias("item_id"),
        F.lower(F.trim(F.col("event_type").cast("string"))).alias("event_type"),
        position.alias("position"),
        ((F.trim(F.col("position").cast("string")) != "") & position.isNull()).alias("bad_position"),
        F.struct(*raw.columns).alias("source"),
    )


def rows_of_run(events: DataFrame, *, first: dt.date, last: dt.date, horizon: dt.date | None) -> DataFrame:
    """The rows that the run owns: events of its dates and, where a horizon is given, rows of no date.

    Args:
        events: As `parse_events` gives them.
        first: First event date of the run.
        last: Last event date of the run.
        horizon: The newest date that any run owns; None when rows of no date are another run's.
    """

    def midnight(date: dt.date) -> Column:
        return F.lit(date).cast("timestamp")

    event_ts = F.col("event_ts")
    of_run = (event_ts >= midnight(first)) & (event_ts < midnight(last + dt.timedelta(days=1)))
    if horizon is None:
        return events.where(of_run)
    return events.where(of_run | event_ts.isNull() | (event_ts >= midnight(horizon + dt.timedelta(days=1))))


def judge_rows(
    events: DataFrame,
    items: DataFrame,
    *,
    forgotten: Sequence[str],
    horizon: dt.date,
    robot_events: int,
    max_query_chars: int,
) -> DataFrame:
    """Say of every row why it is refused, were it the only delivery of its event.

    Args:
        events: As `parse_events` gives them.
        items: item_id; one row an item that the catalog ever held.
        forgotten: item_id of every item that was taken down.
        horizon: What is dated later has a clock that runs ahead.
        robot_events: The most events that a session of a person has on one date.
        max_query_chars: The longest query, in characters.

    Returns:
        `events` with `reason`, null for a good row; item_id is the forgotten item where a line names one.
    """
    malformed = F.col(f"source.{MALFORMED}")
    taken_down = forgotten_item(forgotten, item_id=F.col("item_id"), malformed=malformed)
    events = events.withColumn("taken_down", taken_down)
    session = Window.partitionBy("session_id", "event_date")
    query = F.col("query")
    refusals: dict[str, Column] = {
        FORGOTTEN_ITEM: F.col("taken_down").isNotNull(),
        "malformed_line": malformed.isNotNull(),
        "missing_event_id": F.col("event_id").isNull(),
        "bad_timestamp": F.col("event_ts").isNull(),
        "future_clock": F.col("event_date") > F.lit(horizon),
        "missing_session": F.col("session_id").isNull(),
        "bad_event_type": ~F.coalesce(F.col("event_type").isin(*EVENT_TYPES), F.lit(False)),
        "bad_position": F.col("bad_position"),
        "empty_query": query.isNull() | (query == ""),
        "junk_query": ~query.rlike(r"[\p{L}\p{N}]"),
        "query_too_long": F.length(query) > max_query_chars,
        "robot": F.count("*").over(session) > robot_events,
        "unknown_item": F.col("is_known_item").isNull(),
    }
    reason = F.coalesce(*(F.when(refused, F.lit(name)) for name, refused in refusals.items()))
    known = items.select("item_id", F.lit(True).alias("is_known_item"))
    return (
        events.join(known, on="item_id", how="left")
        .withColumns({"reason": reason, "item_id": F.coalesce("taken_down", "item_id")})
        .drop("is_known_item", "bad_position", "taken_down")
    )


def refuse_repeats(judged: DataFrame, ids_of_other_dates: DataFrame) -> DataFrame:
    """Accept the earliest good delivery of every event and refuse the others.

    Args:
        judged: As `judge_rows` gives them.
        ids_of_other_dates: event_id of the events that the lake holds outside the run's dates.

    Returns:
        `judged` with `reason` filled in for `repeated_delivery` (the same content came before) and
        `conflicting_delivery` (other content came under the same event_id).
    """
    content = F.xxhash64(*(name for name in QUERY_EVENTS.column_names if name != "event_id"))
    is_good = F.col("reason").isNull()
    deliveries = Window.partitionBy("event_id").orderBy(F.desc(is_good), "event_ts", "content")
    earlier = ids_of_other_dates.select("event_id", F.lit(True).alias("is_of_other_date"))
    repeat = (
        F.when(F.col("is_of_other_date"), F.lit("conflicting_delivery"))
        .when(F.row_number().over(deliveries) == 1, F.lit(None))
        .when(F.col("content") == F.first("content").over(deliveries), F.lit("repeated_delivery"))
        .otherwise(F.lit("conflicting_delivery"))
    )
    return (
        judged.withColumn("content", content)
        .join(earlier, on="event_id", how="left")
        .withColumn("reason", F.when(is_good, repeat).otherwise(F.col("reason")))
        .drop("content", "is_of_other_date")
    )


def refused_rows(cleaned: DataFrame, *, logical_date: dt.date) -> DataFrame:
    """The refused rows as rejected_rows holds them, each under the date that owns it.

    Of a row that names a forgotten item nothing is kept but the item's id.
    """
    row = F.when(F.col("reason") == FORGOTTEN_ITEM, F.to_json(F.struct("item_id"))).otherwise(F.to_json("source"))
    owner = F.least(F.coalesce(F.col("event_date"), F.lit(logical_date)), F.lit(logical_date))
    return cleaned.where(F.col("reason").isNotNull()).select(
        F.lit(SOURCE).alias("source"), owner.alias("logical_date"), "reason", row.alias("row")
    )


def run(job: JobRun, options: Options) -> None:
    """Read the log once, judge every row, and replace the run's dates in both tables."""
    first, last = options.first_date, options.last_date
    job.access.sources.append(options.query_log)
    raw = read_source(job.spark, options.query_log, required=REQUIRED, optional=OPTIONAL)
    newest = job.lake.read(QUERY_EVENTS).agg(F.max("event_date")).first()[0]
    horizon = max(options.date, newest or options.date)
    has_rows_of_no_date = last == options.date
    events = rows_of_run(parse_events(raw), first=first, last=last, horizon=horizon if has_rows_of_no_date else None)
    judged = judge_rows(
        events,
        job.lake.read(ITEMS),
        forgotten=forgotten_ids(job.lake),
        horizon=horizon,
        robot_events=options.robot_events,
        max_query_chars=options.max_query_chars,
    )
    of_run = F.col("event_date").between(first, last)
    cleaned = refuse_repeats(judged, job.lake.read(QUERY_EVENTS).where(~of_run)).persist(StorageLevel.DISK_ONLY)
    with job.stage("clean"):
        counts = {row["reason"]: row["count"] for row in cleaned.groupBy("reason").count().collect()}
    accepted = counts.pop(None, 0)
    with job.stage("write"):
        # In this order: a write to query_events, which `cleaned` reads, ends what is kept of it.
        slices = (F.col("source") == SOURCE) & F.col("logical_date").between(first, last)
        has_new_refusals = job.lake.replace(REJECTED_ROWS, refused_rows(cleaned, logical_date=options.date), slices)
        good = cleaned.where(F.col("reason").isNull()).select(*QUERY_EVENTS.column_names)
        has_new_events = job.lake.replace(QUERY_EVENTS, good, of_run)
    cleaned.unpersist()

    rejected = sum(counts.values())
    job.count(rows_in=accepted + rejected, rows_out=accepted, rows_rejected=rejected)
    for reason, rows in counts.items():
        job.figure(f"rejected_{reason}", rows)
    if counts:
        job.note("refused: " + ", ".join(f"{rows:,} {reason}" for reason, rows in sorted(counts.items())))
    if not (has_new_events or has_new_refusals):
        job.unchanged()


if __name__ == "__main__":
    main(run, Options)
