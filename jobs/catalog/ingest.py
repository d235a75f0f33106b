"""Bring the catalog up to a day's snapshot: items, their photos, and what was refused and why.

Reads:  a full snapshot (MAKE_CATALOG), its photos (MAKE_IMAGES), items, item_images, forgotten_items, job_runs;
        rejected_rows once they are written
Writes: items, item_images, rejected_rows
"""

import datetime as dt
from contextlib import ExitStack
from dataclasses import dataclass

from pydantic import Field
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.catalog.changes import CHANGES, MARKS, departures, described, transitions
from jobs.catalog.photos import PhotoSource, new_images, open_source
from jobs.catalog.snapshot import check_rows, read_snapshot, refuse_forgotten
from jobs.core.forgotten import forgotten_ids
from jobs.core.frames import persisted
from jobs.core.job import DatedOptions, JobError, JobRun, main
from jobs.core.lake import Lake
from jobs.core.options import DailySource
from jobs.core.sources import SourceError
from schemas import ITEM_IMAGES, ITEMS, JOB_RUNS, REJECTED_ROWS

# What `rejected_rows` calls the refused rows, and the accepted ones that are not whole.
REFUSED, FLAGGED = "catalog", "catalog_flags"


class Options(DatedOptions):
    """Ingest one full snapshot of the catalog. An item that it lacks becomes inactive."""

    catalog: DailySource = Field(
        description="The snapshot: Parquet, CSV, JSON lines or Delta; a file, a folder or a URI; {date} is the date."
    )
    images: DailySource | None = Field(
        None, description="Photos: a Parquet or Delta table of image_uri and content, or a folder of files; {date} too."
    )
    max_deactivated_share: float = Field(
        0.2, ge=0, le=1, description="Refuse a snapshot that would deactivate a larger share of the active items."
    )
    max_lost_photos_share: float = Field(
        0.2, ge=0, le=1, description="Refuse a run in which a larger share of the items with a photo would lose it."
    )


def known_photos(items: DataFrame, source: PhotoSource) -> DataFrame:
    """photo, etag, content_sha256: what earlier runs read, by the names that this source uses."""
    return (
        items.where(F.col("image_sha256").isNotNull())
        .groupBy(source.name_of(F.col("image_uri")).alias("photo"), F.col("image_etag").alias("etag"))
        .agg(F.min("image_sha256").alias("content_sha256"))
    )


def flags(accepted: DataFrame, photos: DataFrame, unreadable: DataFrame) -> DataFrame:
    """reason and row of everything that is accepted but not whole; a row for each reason.

    Args:
        accepted: flags, photo, row.
        photos: photo, content_sha256, ambiguous.
        unreadable: content_sha256, unreadable_reason.
    """
    names_no_photo = F.col("photo").isNotNull() & F.col("content_sha256").isNull()
    of_photo = F.array(
        F.when(names_no_photo, "photo_not_found"),
        F.concat(F.lit("photo_"), "unreadable_reason"),
        F.when(F.col("ambiguous"), "photo_listed_twice"),
    )
    return (
        accepted.join(photos, on="photo", how="left")
        .join(F.broadcast(unreadable), on="content_sha256", how="left")
        .select(F.explode(F.concat("flags", F.array_compact(of_photo))).alias("reason"), "row")
    )


@dataclass(frozen=True)
class Before:
    """The lake as the run finds it.

    Args:
        newest: The newest date that was ingested; None in an empty lake.
        active: Active items.
        with_photo: Those of them that have a photo.
    """

    newest: dt.date | None
    active: int
    with_photo: int

    @classmethod
    def of(cls, lake: Lake) -> "Before":
        """A snapshot that changed no item left its date in the runs only."""
        ingests = lake.read(JOB_RUNS).where("job = 'catalog ingest' AND verdict IN ('succeeded', 'unchanged')")
        photo_of_active = F.when(F.col("is_active"), F.col("image_sha256"))
        items = lake.read(ITEMS).agg(
            F.max("snapshot_date").alias("newest"), F.count_if("is_active"), F.count(photo_of_active)
        )
        changed, active, with_photo = items.first()
        (seen,) = ingests.agg(F.max("logical_date")).first()
        return cls(max(filter(None, (changed, seen)), default=None), active, with_photo)


def run(job: JobRun, options: Options) -> None:
    """Check the rows, read the photos that are new, change the items that changed."""
    # Batches of photos stay far below the 2 GiB that one Arrow batch can hold.
    job.spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "256")
    job.access.sources.extend(filter(None, (options.catalog, options.images)))
    try:
        snapshot = read_snapshot(job.spark, options.catalog)
        source = open_source(job.spark, options.images)
    except SourceError as error:
        raise JobError(str(error)) from error
    with ExitStack() as stack:
        with job.stage("read"):
            rows = refuse_forgotten(check_rows(snapshot), forgotten_ids(job.lake))
            rows = stack.enter_context(persisted(rows))
            refused = rows.where(F.col("reason").isNotNull()).select(F.lit(REFUSED).alias("source"), "reason", "row")
            accepted = rows.where(F.col("reason").isNull()).withColumn("photo", source.name_of(F.col("image_uri")))
            _count_rows(job, options, rows, refused)
            before = Before.of(job.lake)
        if before.newest is not None and options.date < before.newest:
            _record_rows(job, options, refused)
            job.note(f"the lake has the snapshot of {before.newest} already: items stay as they are")
            job.unchanged()
            return

        items = job.lake.read(ITEMS)
        with job.stage("photos"):
            known = known_photos(items, source)
            listing = source.listing().join(accepted.select("photo"), on="photo", how="left_semi")
            listing = stack.enter_context(persisted(listing))
            unread = listing.join(known, on=["photo", "etag"], how="left_anti").select("photo", "etag")
            photos_read = unread.count()
            if photos_read:
                read = stack.enter_context(persisted(source.read(unread, rows=photos_read)))
                just_read = read.groupBy("photo", "etag").agg(F.min("content_sha256").alias("content_sha256"))
                known = known.unionByName(just_read)
            photos = stack.enter_context(persisted(listing.join(known, on=["photo", "etag"], how="inner")))

        with job.stage("compare"):
            departed = departures(items, rows.select("item_id"))
            changes = transitions(items, described(accepted, photos), departed, date=options.date)
            changes = stack.enter_context(persisted(changes))
            changed = _count_changes(job, options, changes, before)
            job.figure("photos_read", photos_read)

        with job.stage("write"):
            if photos_read:
                job.lake.append(ITEM_IMAGES, new_images(read, job.lake.read(ITEM_IMAGES), rows=photos_read))
            unreadable = job.lake.read(ITEM_IMAGES).where("NOT readable").select("content_sha256", "unreadable_reason")
            flagged = flags(accepted, photos, unreadable).withColumn("source", F.lit(FLAGGED))
            _record_rows(job, options, refused.unionByName(flagged))
            if changed:
                not_older = F.col("s.snapshot_date") >= F.col("t.snapshot_date")
                job.lake.merge(ITEMS, changes.select(ITEMS.column_names), when=not_older)
            else:
                job.unchanged()


def _count_rows(job: JobRun, options: Options, rows: DataFrame, refused: DataFrame) -> None:
    """Count what came.

    Raises:
        JobError: There is no acceptable row.
    """
    came, accepted = rows.agg(F.count("*"), F.count_if(F.col("reason").isNull())).first()
    job.count(rows_in=came, rows_out=accepted, rows_rejected=came - accepted)
    if not accepted:
        _record_rows(job, options, refused)
        raise JobError(f"{options.catalog}: expected a full snapshot, but none of its {came:,} rows can be accepted")


def _record_rows(job: JobRun, options: Options, recorded: DataFrame) -> None:
    """Put refused and flagged rows (source, reason, row) into `rejected_rows`, and their reasons before people."""
    tonight = F.col("source").isin(REFUSED, FLAGGED) & (F.col("logical_date") == F.lit(options.date))
    job.lake.replace(REJECTED_ROWS, recorded.withColumn("logical_date", F.lit(options.date)), tonight)
    reasons = job.lake.read(REJECTED_ROWS).where(tonight).groupBy("source", "reason").count().collect()
    for source, words in ((REFUSED, "refused"), (FLAGGED, "accepted all the same")):
        counts = sorted(f"{row['reason']} {row['count']:,}" for row in reasons if row["source"] == source)
        if counts:
            job.note(f"{words}: {', '.join(counts)}")


def _count_changes(job: JobRun, options: Options, changes: DataFrame, before: Before) -> int:
    """Put how many items came, changed and went into the run's figures; returns their sum.

    Raises:
        JobError: The snapshot lacks so many active items, or so many photos, that it cannot be a full one.
    """
    counts = changes.agg(
        *(F.count_if(F.col("change") == kind).alias(kind) for kind in CHANGES),
        *(F.count_if(mark).alias(mark) for mark in MARKS),
    ).first()
    if counts["departed"] > options.max_deactivated_share * before.active:
        raise JobError(
            f"{options.catalog}: lacks {counts['departed']:,} of the {before.active:,} active items, more than the "
            f"{options.max_deactivated_share:.0%} that a full snapshot may lack. Bring the full snapshot; or, if those "
            "items are really gone, run this once with a larger --max-deactivated-share."
        )
    if counts["lost_photo"] > options.max_lost_photos_share * before.with_photo:
        raise JobError(
            f"{options.images or 'no MAKE_IMAGES'}: {counts['lost_photo']:,} of {before.with_photo:,} items with a "
            f"photo would lose it, more than {options.max_lost_photos_share:.0%}. Check the photo store; or, if those "
            "photos are really gone, run this once with a larger --max-lost-photos-share."
        )
    for name in (*CHANGES, *MARKS):
        job.figure(f"items_{name}", counts[name])
    return sum(counts[kind] for kind in CHANGES)


if __name__ == "__main__":
    main(run, Options)
