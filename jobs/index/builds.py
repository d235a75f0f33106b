"""The record of builds: which there are, which one is published, and the switch between them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, TypeVar

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from jobs.core.frames import few_rows
from jobs.core.job import JobError, JobRun
from jobs.core.lake import Lake
from jobs.core.lease import held_lease
from jobs.core.serving import named_model
from jobs.index.manifest import CURRENT_FILE, BuildIntegrityError, Current, Manifest
from schemas import DUPLICATE_ITEMS, INDEX_BUILDS, QUERY_NEIGHBOURS
from schemas.index import HOLD

INDEXES = "indexes"
# The status of a build whose folder went: it was kept for long enough, or held an item that was taken down.
REMOVED = "removed"
# The lease of whoever changes what is published.
_SWITCH = f"{INDEX_BUILDS.name}-published"

Changed = TypeVar("Changed")
# Tries of a change that others' changes of the table come before.
_TRIES = 5
_MOVED_ON = "index_builds was changed by another run at the same moment"


def published_build(lake: Lake) -> Row | None:
    """The row of the published build."""
    return lake.read(INDEX_BUILDS).where(F.col("status") == "published").first()


def kept_builds(lake: Lake) -> list[Row]:
    """The rows of all builds that have a folder, the newest night's first: as few as retention keeps."""
    rows = lake.read(INDEX_BUILDS).where(F.col("status") != REMOVED).collect()
    return sorted(rows, key=itemgetter("logical_date", "built_at"), reverse=True)


def earlier_builds(builds: Sequence[Row], published: Row) -> list[Row]:
    """Of `kept_builds`, those of before the published one that were published themselves: what a rollback goes to."""
    return [build for build in builds[builds.index(published) + 1 :] if build["status"] == "superseded"]


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
        named = f"{build['build_id']} of {build['logical_date']}"
        raise JobError(
            f"{named} is no more: its folder went with age (`operations maintain`), "
            "or with an item that was taken down (`operations forget`). Name another build, or run `index build`"
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
    """Write one build's row, unless it is published by now; False when nothing was to be written."""
    rows = job.spark.createDataFrame([row], INDEX_BUILDS.schema)
    return _change(lambda: job.lake.merge(INDEX_BUILDS, rows, when=F.col("t.status") != "published")).changed > 0


def items_of(lake: Lake, manifest: Manifest, spark: SparkSession) -> DataFrame:
    """`shard.ITEM_COLUMNS` of a build's items, as tasks read them."""
    return spark.read.parquet(*(lake.uri(INDEXES, manifest.build_id, shard.items_file) for shard in manifest.shards))


@contextmanager
def switching(job: JobRun) -> Iterator[None]:
    """Be the one run that changes what is published: from reading the table until CURRENT mirrors it.

    Raises:
        JobError: Another run is at it.
    """
    with held_lease(job, _SWITCH), few_rows(job.spark):
        yield


def switch_published(job: JobRun, build: Row, replaced: Row | None, *, hold: dict[str, Any] | None = None) -> None:
    """Publish a build in place of the published one, in one commit, then mirror it.

    The commit compares: where one of the two is not as the run read it any more, nothing changes.  So it is the table
    that lets one of two runs win; the lease, which a run may lose, only tells the other in good time.

    Args:
        job: The run.
        build: The build's row, as the run read it.
        replaced: The published build's row, as the run read it; None where none was.
        hold: by, reason, until: what keeps nights from publishing from now on.

    Raises:
        JobError: Another run changed one of the two meanwhile.
    """
    is_build = F.col("build_id") == build["build_id"]
    is_as_read = is_build & (F.col("status") == build["status"])
    is_replaced = F.lit(False) if replaced is None else F.col("build_id") == replaced["build_id"]
    held = F.lit(None) if hold is None else F.struct(*(F.lit(value).alias(name) for name, value in hold.items()))
    status = F.when(is_as_read, "published").when(is_replaced, "superseded").otherwise(F.raise_error(F.lit(_MOVED_ON)))
    values = {
        "status": status,
        "published_at": F.when(is_build, dt.datetime.now(dt.UTC)).otherwise(F.col("published_at")),
        "hold": F.when(is_build, held.cast(HOLD)),
    }
    _change(lambda: job.lake.update(INDEX_BUILDS, is_build | (F.col("status") == "published"), values))
    mirror_published(job.lake, build["build_id"])


def lift_hold(job: JobRun) -> None:
    """Take the hold from whichever build is published."""
    _change(lambda: job.lake.update(INDEX_BUILDS, F.col("status") == "published", {"hold": F.lit(None)}))


def mark_removed(lake: Lake, build_ids: Collection[str]) -> set[str]:
    """Say in one commit that builds are no more, before their folders go; never of one that is published by then.

    What was recorded of their neighbours goes too.

    Args:
        lake: The lake.
        build_ids: Builds, with or without a row.

    Returns:
        Those whose folders may go.
    """
    if not build_ids:
        return set()
    named = F.col("build_id").isin(list(build_ids))
    there = named & ~F.col("status").isin("published", REMOVED)
    if not lake.read(INDEX_BUILDS).where(there).isEmpty():
        _change(lambda: lake.update(INDEX_BUILDS, there, {"status": F.lit(REMOVED)}))
    published = published_build(lake)
    free = {build_id for build_id in build_ids if published is None or build_id != published["build_id"]}
    for table in (DUPLICATE_ITEMS, QUERY_NEIGHBOURS):
        if free and lake.exists(table):
            lake.delete(table, F.col("build_id").isin(list(free)))
    return free


def _change(change: Callable[[], Changed]) -> Changed:
    """Make a change of the table, after those that others make at the same moment.

    Raises:
        JobError: There is no end of them, or one of them changed what this change was decided by.
    """
    tries_left = _TRIES
    while True:
        tries_left -= 1
        try:
            return change()
        except (PySparkException, Py4JJavaError) as error:  # what fails in a task, and Delta's own, come as they are
            text = str(error)
            if "[DELTA_CONCURRENT_" in text and tries_left:
                continue
            if "[DELTA_CONCURRENT_" in text or _MOVED_ON in text:
                raise JobError(f"{_MOVED_ON}; this run did not change it. Run it again") from error
            raise


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
