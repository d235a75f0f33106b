"""The record of builds: which there are, which one is published, and the switch between them."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from pyspark.sql import Row
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from jobs.core.job import JobError, JobRun
from jobs.core.lake import Lake
from jobs.core.serving import named_model
from jobs.index.manifest import CURRENT_FILE, BuildIntegrityError, Current, Manifest
from schemas import INDEX_BUILDS
from schemas.index import HOLD
from schemas.table import STRING, TIMESTAMP

INDEXES = "indexes"
# The status of a build whose folder went because it held an item that was taken down.
REMOVED = "removed"


def published_build(lake: Lake) -> Row | None:
    """The row of the published build."""
    return lake.read(INDEX_BUILDS).where(F.col("status") == "published").first()


def find_build(lake: Lake, build_id: str) -> Row | None:
    """The row of a build."""
    return lake.read(INDEX_BUILDS).where(F.col("build_id") == build_id).first()


def newest_build(lake: Lake, *, date: dt.date, model_version: str) -> Row | None:
    """The row of the last build of that date and model whose folder is there."""
    of_night = (F.col("logical_date") == F.lit(date)) & (F.col("model_version") == model_version)
    builds = lake.read(INDEX_BUILDS).where(of_night).where(F.col("status") != REMOVED)
    return builds.orderBy(F.desc("built_at")).first()


def build_of_night(lake: Lake, *, date: dt.date, build_id: str | None, model_version: str | None) -> Row:
    """The row of the build that a night's check or publish is about.

    Args:
        lake: The lake.
        date: The night.
        build_id: This build, whatever the night.
        model_version: The newest build of the night with this model, as `named_model` reads it.

    Returns:
        The published build's row when the night came to nothing new.

    Raises:
        JobError: There is no such build, or no more.
        JobSkipped: No model serves yet.
    """
    if build_id:
        build = find_build(lake, build_id)
    else:
        build = newest_build(lake, date=date, model_version=named_model(lake, model_version)) or published_build(lake)
    if build is None:
        raise JobError(f"there is no build {build_id or f'of {date}'}: run `index build --date {date}` first")
    refuse_removed(build)
    return build


def refuse_removed(build: Row) -> None:
    """Make sure that a build's folder was not taken away.

    Raises:
        JobError: It was.
    """
    if build["status"] == REMOVED:
        raise JobError(
            f"{build['build_id']} of {build['logical_date']} is no more: it held an item that `operations forget` took "
            "down. Name another build, or run `index build` for one without the item"
        )


def verify_servable(lake: Lake, build: Row) -> None:
    """Prove that a build can serve: its files are those that were written, and its queries' model is in the lake.

    Raises:
        BuildIntegrityError: It cannot.
    """
    folder = lake.uri(INDEXES, build["build_id"])
    Manifest.read(folder).verify_files(folder)
    if not lake.fs.isdir(lake.path("models", build["model_version"])):
        raise BuildIntegrityError(f"models/{build['model_version']}, which encodes the build's queries, is not there")


def record_build(job: JobRun, row: dict[str, Any]) -> bool:
    """Write one build's row; False when it says nothing new and nothing was written."""
    return job.lake.merge(INDEX_BUILDS, job.spark.createDataFrame([row], INDEX_BUILDS.schema)).changed > 0


def switch_published(job: JobRun, build_id: str, *, hold: dict[str, Any] | None = None) -> None:
    """Publish a build in place of whichever is published now, in one commit, then mirror it.

    The commit itself supersedes every other published row, so at most one is left whatever happened before.

    Args:
        job: The run.
        build_id: A build that has its row.
        hold: by, reason, until: what keeps nights from publishing from now on.
    """
    schema = StructType(
        [StructField("build_id", STRING), StructField("published_at", TIMESTAMP), StructField("hold", HOLD)]
    )
    source = job.spark.createDataFrame([(build_id, dt.datetime.now(dt.UTC), hold)], schema)
    (
        job.lake.delta(INDEX_BUILDS)
        .alias("t")
        .merge(source.alias("s"), F.lit(True))
        .whenMatchedUpdate(
            condition="t.build_id = s.build_id",
            set={"status": F.lit("published"), "published_at": "s.published_at", "hold": "s.hold"},
        )
        .whenMatchedUpdate(
            condition="t.status = 'published'",
            set={"status": F.lit("superseded"), "hold": F.lit(None)},
        )
        .execute()
    )
    mirror_published(job.lake, build_id)


def mirror_published(lake: Lake, build_id: str) -> None:
    """Make `indexes/CURRENT` name this build; nothing is written when it does."""
    current = Current.of(Manifest.read(lake.uri(INDEXES, build_id)))
    try:
        if Current.read(lake.uri(INDEXES)) == current:
            return
    except BuildIntegrityError:
        pass  # absent or damaged: both are mended by writing it
    write_atomically(lake, current.model_dump_json(indent=2).encode(), INDEXES, CURRENT_FILE)


def write_atomically(lake: Lake, content: bytes, *parts: str) -> None:
    """Write a small file so that a reader sees the old bytes or the new ones, never some of each."""
    path = lake.path(*parts)
    if not lake.is_local:
        lake.fs.pipe_file(path, content)  # object stores show an object only when it is complete
        return
    temporary = f"{path}.{uuid.uuid4().hex[:8]}"
    lake.fs.pipe_file(temporary, content)
    lake.fs.mv(temporary, path)
