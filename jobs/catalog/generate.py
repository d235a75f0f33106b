"""Generate a catalog with photos, a query log and judged queries to try the pipeline with.

Writes, below --output (not in the lake):
    <date>/catalog/      the catalog on the first date and on the day after
    <date>/images/       its photos: image_uri, content
    <date>/query_log/    what shoppers sent: in the days up to the first date, and on the day after
    judged_queries.parquet, judgments.parquet
"""

import datetime as dt
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from pydantic import Field
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from jobs.catalog.marketplace.photos import draw_card, draw_photo
from jobs.catalog.marketplace.products import CARDS, FIRST_DAY, SECOND_DAY, Marketplace, item_id
from jobs.catalog.marketplace.queries import Want, judged_wants, phrase
from jobs.catalog.marketplace.shoppers import Log, Shelf
from jobs.core.job import JobOptions, JobRun, main

CATALOG = (
    "item_id string, title string, category string, price double, in_stock boolean, image_uri string, "
    "updated_at timestamp"
)
IMAGES = "image_uri string, content binary, first_day boolean, second_day boolean"
QUERY_LOG = (
    "event_id string, event_ts timestamp, session_id string, query string, item_id string, "
    "event_type string, position bigint"
)
JUDGMENTS = "query_id string, item_id string"

# A task is worth starting for this many of a thing.
_ITEMS_A_TASK = 2_000
_SESSIONS_A_TASK = 50_000


class Options(JobOptions):
    """A seeded, made-up marketplace of any size; the same options give the same files."""

    output: str = Field(description="Folder or URI to write below; what an earlier call left there is replaced.")
    items: int = Field(3000, ge=100, le=100_000_000, description="Products on the first date.")
    date: dt.date = Field(dt.date(2026, 11, 20), description="Date of the first snapshot; the second is the day after.")
    days: int = Field(7, ge=1, description="Days of log up to and including the first date.")
    sessions_per_item: float = Field(4.0, gt=0, description="Shoppers' sessions in the log, for each product.")
    seed: int = Field(1, ge=0, lt=2**32, description="Another seed gives another marketplace.")


def catalog(spark: SparkSession, market: Marketplace, day: int) -> DataFrame:
    """The snapshot of a day."""
    return _by_number(
        spark, market.all_items, _ITEMS_A_TASK, lambda numbers: market.catalog_rows(numbers, day), schema=CATALOG
    )


def photos(spark: SparkSession, market: Marketplace) -> DataFrame:
    """Every photo of both days, and on which of them the store has it under that name."""
    return _by_number(spark, market.all_items, _ITEMS_A_TASK, lambda numbers: _draw(market, numbers), schema=IMAGES)


def query_log(spark: SparkSession, log: Log, sessions: range) -> DataFrame:
    """The events of those sessions, in order of day."""

    def events(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        shelves = {day: Shelf.of(log.market, day) for day in (FIRST_DAY, SECOND_DAY)}
        for batch in batches:
            yield log.events(batch["id"].to_numpy(), shelves)

    tasks = max(2, len(sessions) // _SESSIONS_A_TASK)
    return spark.range(sessions.start, sessions.stop, 1, tasks).mapInPandas(events, QUERY_LOG)


def judgments(spark: SparkSession, market: Marketplace, wants: dict[str, Want]) -> DataFrame:
    """The items, on sale on either day, that have everything a judged query wants."""

    def relevant(numbers: np.ndarray) -> pd.DataFrame:
        numbers = numbers[market.on_sale(numbers, FIRST_DAY) | market.on_sale(numbers, SECOND_DAY)]
        truth = market.truth(numbers)
        ids = np.array([item_id(number) for number in numbers], object)
        found = [
            pd.DataFrame({"query_id": query_id, "item_id": ids[(truth[list(want)] == list(want.values())).all(axis=1)]})
            for query_id, want in wants.items()
        ]
        return pd.concat(found, ignore_index=True)

    return _by_number(spark, market.all_items, 50_000, relevant, schema=JUDGMENTS)


def run(job: JobRun, options: Options) -> None:
    """Write everything."""
    market = Marketplace(options.seed, options.items, options.date)
    log = Log(market, max(1, round(options.items * options.sessions_per_item)), options.days)
    dates = {FIRST_DAY: options.date, SECOND_DAY: options.date + dt.timedelta(days=1)}

    # Spark's default for timestamps in Parquet carries no statistics, so nobody could skip the days they do not want.
    job.spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    with job.stage("photos"):
        drawn = photos(job.spark, market).persist(StorageLevel.DISK_ONLY)
        for day, column in ((FIRST_DAY, "first_day"), (SECOND_DAY, "second_day")):
            that_day = drawn.where(F.col(column)).drop("first_day", "second_day")
            _write(that_day, options, dates[day], "images")
        drawn.unpersist()
    with job.stage("catalog"):
        for day, date in dates.items():
            _write(catalog(job.spark, market, day), options, date, "catalog")
    with job.stage("query log"):
        for day, date in dates.items():
            _write(query_log(job.spark, log, log.sessions_by(day)), options, date, "query_log")
    with job.stage("judged queries"):
        wants = {f"q{number:04d}": want for number, want in enumerate(judged_wants(market))}
        _write(judgments(job.spark, market, wants), options, "judgments.parquet")
        answered = job.spark.read.parquet(f"{options.output}/judgments.parquet").groupBy("query_id").count()
        queries = [(query_id, phrase(want, market.generator(query_id, 0))) for query_id, want in wants.items()]
        judged = job.spark.createDataFrame(queries, "query_id string, query string")
        _write(judged.join(answered, on="query_id", how="left_semi"), options, "judged_queries.parquet")
    job.count(rows_out=options.items)


def _draw(market: Marketplace, numbers: np.ndarray) -> pd.DataFrame:
    """The photos of those items: image_uri, content, first_day, second_day."""
    first, second = (market.listing(numbers, day) for day in (FIRST_DAY, SECOND_DAY))
    rows = []
    for number, product, on_first, on_second in zip(
        map(int, numbers),
        market.truth(numbers).to_dict("records"),
        first.itertuples(),
        second.itertuples(),
        strict=True,
    ):
        same = (on_first.photo, on_first.photo_version, on_first.photo_name) == (
            on_second.photo, on_second.photo_version, on_second.photo_name,
        )  # fmt: skip
        for state, in_first, in_second in ((on_first, True, same), (on_second, False, not same)):
            in_first = in_first and number < market.items
            if state.photo in ("none", "unknown") or not (in_first or in_second):
                continue
            if state.photo == "card":
                content = draw_card(CARDS[number % len(CARDS)], variant=number % 9 // 3)
            else:
                content = draw_photo(product, market.generator(f"photo {state.photo_version}", number))
            if state.photo == "truncated":
                content = content[: len(content) * 2 // 5]
            rows.append((market.image_uri(number, state), content, in_first, in_second))
    return pd.DataFrame(rows, columns=["image_uri", "content", "first_day", "second_day"])


def _by_number(
    spark: SparkSession, numbers: int, a_task: int, make: Callable[[np.ndarray], pd.DataFrame], *, schema: str
) -> DataFrame:
    """`make` applied to the numbers from 0, in tasks of about `a_task`."""

    def each(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            for start in range(0, len(batch), 1000):
                yield make(batch["id"].to_numpy()[start : start + 1000])

    tasks = max(2, numbers // a_task)
    return spark.range(0, numbers, 1, tasks).mapInPandas(each, schema)


def _write(rows: DataFrame, options: Options, *place: object) -> None:
    rows.write.mode("overwrite").parquet("/".join([options.output, *map(str, place)]))


if __name__ == "__main__":
    main(run, Options)
