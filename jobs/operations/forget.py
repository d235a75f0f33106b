"""Take items down: their rows, their bytes, their vectors and whatever was made of them, wherever the lake has it.

Reads:  every table whose rows name items, item_images, index_builds; indexes/, training_sets/, staging/, reports/
Writes: the same, forgotten_items and training_sets

Ingests refuse the items from the first step on.  What readers and writers at work may still need, old files of tables
above all, goes after `--retention-hours`, and a published build goes once another is published: until nothing is left
the run says what is, and asks to be run again.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

from pydantic import Field, model_validator
from pyspark.sql import functions as F

from jobs.core.job import DatedOptions, JobRun, main
from jobs.core.lake import Lake
from jobs.core.lease import held_lease
from jobs.core.options import CommaSeparated
from jobs.embedding.vectors import lease_name
from jobs.index.builds import INDEXES, mark_removed
from jobs.operations.maintain import versions_with_rows
from jobs.operations.traces import (
    CHECKPOINTS,
    REPORTS,
    STAGED_VECTORS,
    TRAINING_SETS_FOLDER,
    Sought,
    files_below,
    find_traces,
    items_on_disk,
    items_on_page,
)
from schemas import FORGOTTEN_ITEMS, ITEM_IMAGES, ITEMS, JUDGED_RESULTS, TRAINING_SETS
from schemas.table import Table


class Options(DatedOptions):
    """Take items down everywhere in the lake; without items, finish what is still pending."""

    item_ids: CommaSeparated[str] = Field([], description="Items to take down, as a,b; else those still pending.")
    reason: str | None = Field(None, min_length=1, description="Why; recorded with the items.")
    requested_by: str | None = Field(None, min_length=1, description="Who asked for it; recorded with the items.")
    retention_hours: int = Field(
        24, ge=0, description="Hours after which old files go; 0: at once, and no other job may be at work."
    )

    @model_validator(mode="after")
    def _reason_of_items(self) -> Self:
        if self.item_ids and not (self.reason and self.requested_by):
            raise ValueError("--item-ids needs --reason and --requested-by: both are recorded with the items")
        return self


class Takedown:
    """What a run removed, and what it had to leave.

    Args:
        job: The run.
        sought: The items.
        retention_hours: How old a file must be to go that others may need.

    Attributes:
        removed: What went, by kind.
        left: The items of which something is left.
    """

    def __init__(self, job: JobRun, sought: Sought, retention_hours: int) -> None:
        self._job, self._lake, self._sought, self._hours = job, job.lake, sought, retention_hours
        self.removed: Counter[str] = Counter()
        self.left: set[str] = set()

    def delete_rows(self, table: Table) -> None:
        """Delete the items' rows; a measurement of judged queries stays, and lists them no more."""
        where = self._sought.rows_of(table)
        if table is not JUDGED_RESULTS:
            self.removed["rows"] += self._lake.delete(table, where)
            return
        rows = self._lake.read(table).where(where).count()
        if rows:
            forgotten = F.array(*map(F.lit, self._sought.ids))
            lists = {name: F.array_except(name, forgotten) for name in ("relevant", "found")}
            self._lake.update(table, where, lists)
        self.removed["rows"] += rows

    def purge(self, tables: Sequence[Table]) -> None:
        """Remove old files of tables, as far as they are old enough, and look again."""
        old: dict[str, set[str]] = {}
        for table in tables:
            # What an item's photos were is told by files of `items` alone.
            if table is not ITEMS or ITEM_IMAGES.name not in old:
                self._lake.purge(table, retention_hours=self._hours)
            if items := items_on_disk(self._lake, table, self._sought):
                old[table.name] = items
        self.removed["tables"] += len(tables) - len(old)
        text = f"old files of {', '.join(old)}, which versions of the last {self._hours} hours may need"
        self._leave(set().union(*old.values()), text)

    def remove_sets(self, holding: dict[str, set[str]]) -> None:
        """Remove training sets, row first, and checkpoints of trainings on sets that are no more."""
        for folder in holding:
            self._lake.delete(TRAINING_SETS, F.col("training_set_id") == folder.rpartition("/")[2])
            self._remove_folder(folder, "training_sets")
        for folder in orphaned_checkpoints(self._lake):
            self._remove_folder(folder, "checkpoints")

    def remove_builds(self, holding: dict[str, set[str]]) -> None:
        """Remove builds, status first; the published one has to wait for the next."""
        of_build = {folder.rpartition("/")[2]: folder for folder in holding}
        free = mark_removed(self._lake, of_build)
        for build_id, folder in of_build.items():
            if build_id in free:
                self._remove_folder(folder, "builds")
            else:
                text = f"the published {build_id}, until the next night's build is published in its place"
                self._leave(holding[folder], text)

    def remove_files(self, names: Iterable[str], kind: str) -> None:
        """Remove single files."""
        for name in names:
            self._lake.fs.rm(self._lake.path(name))
            self.removed[kind] += 1

    def remove_unfinished(self, names: Iterable[str]) -> None:
        """Remove half-written files, unless they are so young that somebody may be writing them."""
        young = {name for name in names if self._is_young(name)}
        self.remove_files(set(names) - young, "unfinished_files")
        if young:
            text = f"{len(young):,} unfinished files (first: {min(young)}), into which nobody can look"
            self._leave(set(self._sought.ids), text)

    def _is_young(self, name: str) -> bool:
        try:
            written = self._lake.fs.modified(self._lake.path(name))
        except FileNotFoundError:  # finished a moment ago
            return True
        return written > dt.datetime.now(dt.UTC) - dt.timedelta(hours=self._hours)

    def remove_reports(self) -> None:
        """Remove pages that show an item."""
        for name in files_below(self._lake, REPORTS):
            page = self._lake.fs.cat_file(self._lake.path(name)).decode("utf-8", errors="replace")
            if items_on_page(page, self._sought.ids):
                self._remove_folder(name.rpartition("/")[0], "reports")

    def _leave(self, items: set[str], text: str) -> None:
        """Note what is left of items, if anything is."""
        if items:
            self.left |= items
            self._job.note(f"left of {len(items):,} of {len(self._sought.ids):,} items: {text}")

    def _remove_folder(self, folder: str, kind: str) -> None:
        self._lake.fs.rm(self._lake.path(folder), recursive=True)
        self.removed[kind] += 1


def record_items(job: JobRun, options: Options) -> list[str]:
    """Put the items into forgotten_items, from where ingests know them; returns all that are to be looked for."""
    lake = job.lake
    rows = [(item_id, options.reason, options.requested_by, options.date, None) for item_id in set(options.item_ids)]
    if rows:
        new = lake.merge(FORGOTTEN_ITEMS, job.spark.createDataFrame(rows, FORGOTTEN_ITEMS.schema), insert_only=True)
        if new.inserted:
            job.note(f"{new.inserted:,} items are recorded: from now on ingests refuse them")
    sought = F.col("gone_on").isNull() | F.col("item_id").isin(options.item_ids)
    return sorted(row["item_id"] for row in lake.read(FORGOTTEN_ITEMS).where(sought).select("item_id").collect())


def record_gone(job: JobRun, options: Options, ids: list[str], left: set[str]) -> int:
    """Date the items of which nothing is left; returns for how many of all items that changes the record."""
    lake = job.lake
    present = lake.read(FORGOTTEN_ITEMS, lake.version(FORGOTTEN_ITEMS)).where(F.col("item_id").isin(ids))
    gone_on = F.when(F.col("item_id").isin(list(left)), F.lit(None)).otherwise(
        F.coalesce("gone_on", F.lit(options.date))
    )
    return lake.merge(FORGOTTEN_ITEMS, present.withColumn("gone_on", gone_on)).updated


def orphaned_checkpoints(lake: Lake) -> Iterator[str]:
    """Folders of unfinished trainings on sets that are no more: none goes on from them, and they may hold vectors."""
    of_training = defaultdict(list)
    for name in files_below(lake, CHECKPOINTS):
        of_training["/".join(name.split("/")[:3])].append(name)
    for folder, names in of_training.items():
        states = [json.loads(lake.fs.cat_file(lake.path(name))) for name in names if name.endswith("/state.json")]
        sets = [state["settings"]["training_set"].rstrip("/").rpartition("/")[2] for state in states]
        if not all(lake.fs.exists(lake.path(TRAINING_SETS_FOLDER, name, "manifest.json")) for name in sets):
            yield folder


@contextmanager
def vectors_held(job: JobRun) -> Iterator[None]:
    """Hold the lease on every model's vectors, so that nobody embeds an item meanwhile."""
    staged = {name.split("/")[2] for name in files_below(job.lake, STAGED_VECTORS)}
    with ExitStack() as leases:
        for version in sorted({*versions_with_rows(job.lake), *staged}):
            leases.enter_context(held_lease(job, lease_name(version)))
        yield


def run(job: JobRun, options: Options) -> None:
    """Record the items, find them, remove rows and folders, then old files; say what is left."""
    lake = job.lake
    with job.stage("record"):
        ids = record_items(job, options)
    if not ids:
        job.note("no takedown is pending")
        job.unchanged()
        return
    with vectors_held(job):
        with job.stage("find"):
            traces = find_traces(job.spark, lake, ids)
        takedown = Takedown(job, traces.sought, options.retention_hours)
        with job.stage("rows"):
            for table in traces.tables:
                takedown.delete_rows(table)
        with job.stage("folders"):
            takedown.remove_sets(traces.folders(TRAINING_SETS_FOLDER))
            takedown.remove_builds(traces.folders(INDEXES))
            takedown.remove_files([name for name in traces.files if name.startswith(STAGED_VECTORS)], "staged_files")
            takedown.remove_unfinished(traces.unfinished)
            takedown.remove_reports()
        with job.stage("purge"):
            takedown.purge(traces.tables)
    left = takedown.left
    with job.stage("record"):
        news = record_gone(job, options, ids, left)
    for kind, count in takedown.removed.items():
        job.figure(kind, count)
    job.figure("items_left", len(left))
    job.count(rows_in=len(ids), rows_out=len(ids) - len(left))
    if left:
        job.ask_again()
    elif not news and not takedown.removed.total():
        job.unchanged()


if __name__ == "__main__":
    main(run, Options)
