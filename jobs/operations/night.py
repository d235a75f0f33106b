"""What a night did, gathered from the lake's tables.

Every function takes DataFrames and a date and returns plain values; none touches storage.
"""

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from jobs.core.plots import HISTOGRAM_BINS, WeightSpread
from jobs.index.builds import REMOVED
from jobs.index.gates import CEILINGS, COMPARED

# The nightly chain in order; a night is complete when each has run.
CHAIN = (
    "catalog ingest",
    "query-log ingest",
    "embedding items",
    "embedding queries",
    "index build",
    "index check",
    "index publish",
)
# Sources of `rejected_rows` that end so hold rows that were accepted all the same, though something is amiss with them.
ACCEPTED_SUFFIX = "_flags"
# What stands for the category of items that have none.
NO_CATEGORY = "(no category)"


@dataclass(frozen=True)
class Step:
    """The newest run of one job for the night; `seconds` by stage, `figures` by name."""

    job: str
    run_id: str
    verdict: str
    started_at: dt.datetime
    finished_at: dt.datetime
    rows_in: int | None
    rows_out: int | None
    rows_rejected: int | None
    seconds: Mapping[str, float]
    figures: Mapping[str, float]
    notes: Sequence[str]

    @property
    def wall_seconds(self) -> float:
        """From the start of the process to the job's end."""
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def startup_seconds(self) -> float:
        """From the start of the process to its first use of Spark."""
        return self.seconds.get("startup", 0.0)

    @property
    def stages(self) -> dict[str, float]:
        """Seconds by stage, start-up apart.  What workers measured adds up over workers, beyond the wall time."""
        return {stage: seconds for stage, seconds in self.seconds.items() if stage != "startup"}

    @property
    def unaccounted_rows(self) -> int | None:
        """Rows that came and were neither accepted nor refused; 0 when the books balance, None without all three."""
        if self.rows_in is None or self.rows_out is None or self.rows_rejected is None:
            return None
        return self.rows_in - self.rows_out - self.rows_rejected


@dataclass(frozen=True)
class Setback:
    """Something that went wrong on the way; `said` is what the run left of it."""

    job: str
    run_id: str
    finished_at: dt.datetime
    said: str


@dataclass(frozen=True)
class CatalogChange:
    """Items by what the night's snapshot did to them; `moved_on` when a later snapshot was ingested since."""

    active: int
    new: int
    changed: int
    unchanged: int
    gone: int
    moved_on: bool

    @classmethod
    def together(cls, parts: Collection[Self]) -> Self:
        """What was done to several parts of the catalog."""
        sums = {name: sum(getattr(part, name) for part in parts) for name in cls.__dataclass_fields__}
        return cls(**sums | {"moved_on": sums["moved_on"] > 0})


@dataclass(frozen=True)
class Rejection:
    """Rows of one source that were recorded for one reason, and one of them as it came (JSON).

    Args:
        accepted: True for rows that an ingest took all the same: they are not whole (a broken photo, say).
    """

    source: str
    reason: str
    rows: int
    example: str
    accepted: bool


@dataclass(frozen=True)
class Gate:
    """One figure of a build against its bound; not blocking means reported only."""

    gate: str
    figure: float | None
    bound: float | None
    passed: bool
    blocking: bool
    detail: str | None

    @property
    def used(self) -> float | None:
        """Share of what the bound allows that the figure takes up, whatever its unit: 0 at its best, 1 on the bound.

        None where there is no such share: nothing was measured, the bound allows anything or nothing, or it is another
        build's figure.
        """
        best = 0.0 if self.gate in CEILINGS else 1.0
        if self.gate in COMPARED or self.figure is None or self.bound in (None, 0.0, best):
            return None
        return (best - self.figure) / (best - self.bound)


@dataclass(frozen=True)
class Build:
    """One index build; `gates` is None before its check."""

    build_id: str
    logical_date: dt.date
    model_version: str
    items: int
    shards: int
    index_key: str
    status: str
    gates: Sequence[Gate] | None
    held_by: str | None
    hold_reason: str | None
    hold_until: dt.date | None

    @property
    def is_removed(self) -> bool:
        """Whether its folder is gone."""
        return self.status == REMOVED

    def holds(self, date: dt.date) -> bool:
        """Whether nights of that date may not publish over this build."""
        return self.held_by is not None and (self.hold_until is None or self.hold_until >= date)


@dataclass(frozen=True)
class Vectors:
    """Vectors of active items under the serving model.

    Args:
        photos: Category -> ok, missing, broken -> items.
        histogram: Items with a readable photo by image_weight, `HISTOGRAM_BINS` equal bins over 0..1.
        categories: The largest categories, by median weight.
        failures: Reason -> items that could not be embedded this night.
    """

    model_version: str
    photos: Mapping[str, Mapping[str, int]]
    histogram: Sequence[int]
    categories: Sequence[WeightSpread]
    failures: Mapping[str, int]

    @property
    def image_status(self) -> dict[str, int]:
        """ok, missing, broken -> items of all categories."""
        return {name: sum(of.get(name, 0) for of in self.photos.values()) for name in ("ok", "missing", "broken")}


@dataclass(frozen=True)
class PastNight:
    """What one night came to; None is what no run and no check of it has left.

    Args:
        embedded: Items.
        refused: Rows that ingests refused.
        failed: Jobs whose newest run failed.
        seconds: Job -> wall seconds of its newest run.
        recall_at_10, drift: Figures of the gates of its newest build.
    """

    date: dt.date
    embedded: int | None
    refused: int | None
    failed: Sequence[str]
    seconds: Mapping[str, float]
    recall_at_10: float | None
    drift: float | None


def _runs_by_age(job_runs: DataFrame, in_time: Column) -> DataFrame:
    """The runs of the chain's jobs; `age` is 1 for the newest of its job and date, 2 for the one before it, ..."""
    newest_first = Window.partitionBy("job", "logical_date").orderBy(F.desc("finished_at"), F.desc("started_at"))
    return job_runs.where(in_time & F.col("job").isin(*CHAIN)).withColumn("age", F.row_number().over(newest_first))


def _newest_runs(job_runs: DataFrame, in_time: Column) -> DataFrame:
    """The newest run of every job of the chain for each of the dates."""
    return _runs_by_age(job_runs, in_time).where(F.col("age") == 1)


def steps_of_night(job_runs: DataFrame, date: dt.date) -> list[Step]:
    """The newest run of every job of the chain for the date, in the chain's order."""
    rows = _newest_runs(job_runs, F.col("logical_date") == F.lit(date)).select(*Step.__dataclass_fields__).collect()
    return sorted((Step(**row.asDict()) for row in rows), key=lambda step: CHAIN.index(step.job))


def setbacks_of_night(job_runs: DataFrame, date: dt.date) -> list[Setback]:
    """What went wrong for the date and was overcome, or failed beside the chain, in the order in which it ended.

    That is: runs that failed and are not their job's newest one, runs that were not their task's first try, and runs
    of which Spark had to do tasks again.
    """
    runs = _runs_by_age(job_runs, F.col("logical_date") == F.lit(date)).orderBy("finished_at").collect()
    return [Setback(run["job"], run["run_id"], run["finished_at"], said) for run in runs for said in _setbacks(run)]


def _setbacks(run: Row) -> Iterator[str]:
    if run["verdict"] == "failed" and run["age"] > 1:
        yield f"failed: {run['notes'][-1]}"
    if attempt := run["figures"].get("attempt"):
        yield f"was try {attempt:.0f} of its task"
    failed_tasks = run["figures"].get("failed_tasks")
    if failed_tasks and run["verdict"] != "failed":
        yield f"tasks that failed, alone or with their executor, and were done again: {failed_tasks:.0f}"


def past_nights(job_runs: DataFrame, index_builds: DataFrame, date: dt.date, *, nights: int) -> list[PastNight]:
    """The nights of so many dates, the given one the last of them, oldest first; dates without a run are left out."""
    first = date - dt.timedelta(days=nights - 1)
    in_time = F.col("logical_date").between(first, date)
    wall_seconds = F.col("finished_at").cast("double") - F.col("started_at").cast("double")
    runs = (
        _newest_runs(job_runs, in_time)
        .groupBy("logical_date")
        .agg(
            F.max(F.when(F.col("job") == "embedding items", F.col("rows_out"))).alias("embedded"),
            F.sum(F.when(F.col("job").endswith(" ingest"), F.col("rows_rejected"))).alias("refused"),
            F.sort_array(F.collect_list(F.when(F.col("verdict") == "failed", F.col("job")))).alias("failed"),
            F.map_from_entries(F.collect_list(F.struct("job", wall_seconds))).alias("seconds"),
        )
    )

    def figure(name: str) -> Column:
        return F.get(F.filter("gates", lambda gate: gate["gate"] == name), F.lit(0))["figure"]

    checked = index_builds.where(in_time & F.col("gates").isNotNull())
    figures = checked.groupBy("logical_date").agg(
        *(F.max_by(figure(name), "built_at").alias(name) for name in ("recall_at_10", "drift"))
    )
    rows = runs.join(figures, on="logical_date", how="left").withColumnRenamed("logical_date", "date").orderBy("date")
    return [PastNight(**row.asDict()) for row in rows.collect()]


def catalog_changes(items: DataFrame, date: dt.date) -> dict[str, CatalogChange]:
    """What the snapshot of the date did to each category's items; the counts need no earlier version of the table."""
    tonight = F.lit(date)
    is_new = F.col("is_active") & (F.col("first_seen") == tonight)
    is_changed = F.col("is_active") & (F.col("snapshot_date") == tonight) & (F.col("first_seen") < tonight)
    is_unchanged = F.col("is_active") & (F.col("snapshot_date") < tonight)
    rows = items.groupBy(_named_category(F.col("category"))).agg(
        F.count_if("is_active").alias("active"),
        F.count_if(is_new).alias("new"),
        F.count_if(is_changed).alias("changed"),
        F.count_if(is_unchanged).alias("unchanged"),
        F.count_if(F.col("inactive_since") == tonight).alias("gone"),
        (F.max("snapshot_date") > tonight).alias("moved_on"),
    )
    return {category: CatalogChange(*counts) for category, *counts in rows.collect()}


def _named_category(category: Column) -> Column:
    return F.coalesce(category, F.lit(NO_CATEGORY)).alias("category")


def refused_by_category(rejected_rows: DataFrame, date: dt.date) -> dict[str, int]:
    """Rows of the night's snapshot that were refused, by the category that they name."""
    refused = rejected_rows.where((F.col("logical_date") == F.lit(date)) & (F.col("source") == "catalog"))
    category = F.nullif(F.trim(F.get_json_object("row", "$.category")), F.lit(""))
    return dict(refused.groupBy(_named_category(category)).count().collect())


def rejections_of_night(rejected_rows: DataFrame, date: dt.date) -> list[Rejection]:
    """Recorded rows by source and reason, most first within a source."""
    accepted = F.col("source").endswith(ACCEPTED_SUFFIX)
    rows = (
        rejected_rows.where(F.col("logical_date") == F.lit(date))
        .groupBy("source", "reason")
        .agg(F.count("*").alias("rows"), F.min("row").alias("example"))
        .withColumn("accepted", accepted)
        .withColumn("source", F.regexp_replace("source", f"{ACCEPTED_SUFFIX}$", ""))
        .orderBy("accepted", "source", F.desc("rows"), "reason")
        .collect()
    )
    return [Rejection(**row.asDict()) for row in rows]


def build_of_night(index_builds: DataFrame, date: dt.date) -> Build | None:
    """The build that the night made; when an unchanged night made none, the newest one that it could stand on."""
    row = (
        index_builds.where(F.col("logical_date") <= F.lit(date))
        .orderBy(F.desc("logical_date"), (F.col("status") == "published").desc(), F.desc("built_at"))
        .first()
    )
    return None if row is None else _build(row)


def published_build(index_builds: DataFrame) -> Build | None:
    """The build that serves now."""
    row = index_builds.where(F.col("status") == "published").first()
    return None if row is None else _build(row)


def build_before(index_builds: DataFrame) -> Build | None:
    """The newest of the builds that were published once and are older than the one that serves now."""
    age = F.struct("logical_date", "built_at", "build_id")
    serving = index_builds.where(F.col("status") == "published").select(age.alias("serving"))
    row = (
        index_builds.where("published_at IS NOT NULL")
        .join(F.broadcast(serving), on=age < F.col("serving"), how="left_semi")
        .orderBy(F.desc(age))
        .first()
    )
    return None if row is None else _build(row)


def _build(row: Row) -> Build:
    hold = row["hold"]
    return Build(
        **{name: row[name] for name in ("build_id", "logical_date", "model_version", "items", "shards", "index_key")},
        status=row["status"],
        gates=None if row["gates"] is None else [Gate(**gate.asDict()) for gate in row["gates"]],
        held_by=hold and hold["by"],
        hold_reason=hold and hold["reason"],
        hold_until=hold and hold["until"],
    )


def vectors_of_night(
    items: DataFrame, embeddings: DataFrame, failures: DataFrame, *, model_version: str, date: dt.date, categories: int
) -> Vectors:
    """How the serving model sees the active items.

    Args:
        items: The table `items`.
        embeddings: The table `item_embeddings`.
        failures: The table `embedding_failures`.
        model_version: The serving model.
        date: The night.
        categories: How many categories to tell apart, the largest first.
    """
    vectors = (
        embeddings.where(F.col("model_version") == F.lit(model_version))
        .join(items.where("is_active").select("item_id", "category"), on="item_id", how="inner")
        .select(_named_category(F.col("category")), "image_status", "image_weight")
        .persist()
    )
    try:
        photos: dict[str, dict[str, int]] = {}
        for category, status, count in vectors.groupBy("category", "image_status").count().collect():
            photos.setdefault(category, {})[status] = count
        with_photo = vectors.where(F.col("image_status") == "ok")
        position = F.least(F.floor(F.col("image_weight") * HISTOGRAM_BINS), F.lit(HISTOGRAM_BINS - 1))
        filled = {row["bin"]: row["count"] for row in with_photo.groupBy(position.alias("bin")).count().collect()}
        spread = (
            with_photo.groupBy("category")
            .agg(
                F.count("*").alias("items"),
                F.percentile_approx("image_weight", [0.1, 0.5, 0.9], 1000).alias("spread"),
            )
            .orderBy(F.desc("items"), "category")
            .limit(categories)
            .collect()
        )
    finally:
        vectors.unpersist()
    failed_tonight = (F.col("last_attempt") == F.lit(date)) & (F.col("model_version") == F.lit(model_version))
    reasons = failures.where(failed_tonight).groupBy("reason").count().orderBy(F.desc("count"), "reason").collect()
    by_median = sorted(
        (WeightSpread(row["category"], row["items"], *row["spread"]) for row in spread), key=lambda c: c.median
    )
    return Vectors(
        model_version=model_version,
        photos=photos,
        histogram=[filled.get(n, 0) for n in range(HISTOGRAM_BINS)],
        categories=by_median,
        failures={row["reason"]: row["count"] for row in reasons},
    )
