"""Let go of what need not be kept: old builds, models that serve no more, old events, training sets and reports.

Reads:  items, models, index_builds, job_runs
Writes: index_builds, models, item_embeddings, embedding_failures, query_embeddings, query_events, rejected_rows,
        training_sets, indexes/, models/, training_sets/, reports/, staging/, leases/
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from pydantic import Field
from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.core.job import DatedOptions, JobRun, main
from jobs.core.lake import Lake
from jobs.core.lease import LEASES, TRY, held_lease
from jobs.core.serving import newest_promoted_model
from jobs.embedding.staging import remove_staged
from jobs.embedding.vectors import lease_name
from jobs.index.builds import INDEXES, earlier_builds, kept_builds, mark_removed
from jobs.index.manifest import CURRENT_FILE
from jobs.operations.traces import REPORTS, TRAINING_SETS_FOLDER, files_below
from schemas import (
    EMBEDDING_FAILURES,
    INDEX_BUILDS,
    ITEM_EMBEDDINGS,
    ITEMS,
    JOB_RUNS,
    MODELS,
    QUERY_EMBEDDINGS,
    QUERY_EVENTS,
    REJECTED_ROWS,
    TRAINING_SETS,
)

OF_A_MODEL = (ITEM_EMBEDDINGS, EMBEDDING_FAILURES, QUERY_EMBEDDINGS)
# What nobody has written to for so long is nobody's.
_ABANDONED_AFTER = dt.timedelta(days=1)


class Options(DatedOptions):
    """Let go of old builds, models that serve no more, old events, old training sets and reports."""

    keep_builds: int = Field(7, ge=2, description="How many of the builds that were published are kept to go back to.")
    retire_after_days: int = Field(
        30, ge=1, description="Days without a night or a build under it, after which a model's vectors go."
    )
    model_days: int = Field(400, ge=31, description="Days that the folder of a model in no use is kept.")
    delisted_days: int = Field(90, ge=0, description="Days that the vectors of a delisted item are kept.")
    query_event_days: int = Field(
        400, ge=31, description="Days that events of the query log, and rows that ingests refused, are kept."
    )
    keep_training_sets: int = Field(3, ge=1, description="How many training sets are kept, the newest ones.")
    report_days: int = Field(400, ge=1, description="Days that a page stays under reports/.")


def last_uses(lake: Lake) -> dict[str, dt.date]:
    """Model version to the last date for which it embedded items or was indexed, or on which it was made."""
    embedded = lake.read(JOB_RUNS).where("job IN ('embedding items', 'embedding backfill')")
    named = F.get_json_object("arguments", "$.model_version").alias("model_version")
    made = F.to_date(F.greatest("created_at", "promoted_at")).alias("logical_date")
    used = (
        embedded.select(named, "logical_date")
        .unionByName(lake.read(INDEX_BUILDS).select("model_version", "logical_date"))
        .unionByName(lake.read(MODELS).select("model_version", made))
        .where("model_version IS NOT NULL")
    )
    return dict(used.groupBy("model_version").agg(F.max("logical_date")).collect())


def versions_with_rows(lake: Lake) -> list[str]:
    """The models that a table of vectors or failures has rows of, in order."""
    versions = [lake.read(table).select("model_version").distinct().collect() for table in OF_A_MODEL]
    return sorted({row["model_version"] for rows in versions for row in rows})


def models_after(lake: Lake, serving: str | None) -> set[str]:
    """Models that were made or promoted after the serving one, and may be on their way to take its place."""
    made = F.greatest("created_at", "promoted_at")
    made_at = dict(lake.read(MODELS).where("stage <> 'retired'").select("model_version", made).collect())
    since = made_at.get(serving)
    return {version for version, at in made_at.items() if since is None or at > since}


def builds_to_keep(builds: Sequence[Row], *, keep: int, coming: Collection[str]) -> set[str]:
    """The build_id of every build that may be gone back to, or may still be published.

    Args:
        builds: What `kept_builds` gives.
        keep: How many of those that were published stay, the newest nights' first.
        coming: Models that may take the serving one's place; their builds wait, for a check or for a hold's end.
    """
    were_published = [build for build in builds if build["published_at"] is not None]
    # What is newer is at work, waits, or shows why it failed.
    newest = builds.index(were_published[0]) if were_published else len(builds)
    kept = [*builds[:newest], *were_published[:keep]]
    for build in builds:
        if build["status"] == "published":
            kept += [build, *earlier_builds(builds, build)[:1]]
        elif build["status"] in ("built", "passed") and build["model_version"] in coming:
            kept.append(build)
    return {build["build_id"] for build in kept}


def abandoned_folders(lake: Lake, builds: Sequence[Row]) -> list[str]:
    """What killed runs left below indexes/: it belongs to no build, and nobody has written to it for a day."""
    files = defaultdict(list)
    for name in files_below(lake, INDEXES):
        files[name.split("/")[1]].append(name)
    of_builds = {build["build_id"] for build in builds}
    return sorted(name for name in files.keys() - of_builds - {CURRENT_FILE} if _is_abandoned(lake, files[name]))


def _is_abandoned(lake: Lake, names: Sequence[str]) -> bool:
    before = dt.datetime.now(dt.UTC) - _ABANDONED_AFTER
    try:
        return all(lake.fs.modified(lake.path(name)) < before for name in names)
    except FileNotFoundError:  # it was given its name a moment ago: somebody is at work there
        return False


def remove_builds(job: JobRun, options: Options) -> tuple[set[str], int]:
    """Remove the builds that need not be kept, and what killed runs left of others.

    Returns:
        The models of the builds that stay, and how many folders went.
    """
    lake = job.lake
    builds = kept_builds(lake)
    serving = next((build["model_version"] for build in builds if build["status"] == "published"), None)
    kept = builds_to_keep(builds, keep=options.keep_builds, coming=models_after(lake, serving))
    gone = mark_removed(lake, [build["build_id"] for build in builds if build["build_id"] not in kept])
    abandoned = abandoned_folders(lake, builds)
    for name in (*gone, *abandoned):
        if lake.fs.exists(lake.path(INDEXES, name)):
            lake.fs.rm(lake.path(INDEXES, name), recursive=True)
    if gone:
        job.note(f"{len(gone):,} builds went, {len(builds) - len(gone):,} are kept")
    if abandoned:
        job.note(f"{INDEXES}/ had {', '.join(abandoned)}, which belongs to no build: it went")
    job.figure("builds", len(gone))
    job.figure("abandoned_folders", len(abandoned))
    return {build["model_version"] for build in builds if build["build_id"] not in gone}, len(gone) + len(abandoned)


def remove_vectors(job: JobRun, options: Options, in_use: Collection[str], uses: Mapping[str, dt.date]) -> int:
    """Remove, model after model, all its vectors where it is retired, else those of items long gone.

    Args:
        job: The run.
        options: Its options.
        in_use: Models that are not retired, whenever they were last used.
        uses: As `last_uses` gives them.

    Returns:
        How many rows went.
    """
    lake = job.lake
    unused_since = options.date - dt.timedelta(days=options.retire_after_days)
    gone_before = options.date - dt.timedelta(days=options.delisted_days)
    gone = lake.read(ITEMS).where(F.col("inactive_since") < F.lit(gone_before)).select("item_id")
    retired = delisted = 0
    for version in versions_with_rows(lake):
        # What another program wrote, and no run knows of, counts as used.
        last_use = uses.get(version, options.date)
        with held_lease(job, lease_name(version)):
            if version in in_use or last_use >= unused_since:
                of_model = {"model_version": version}
                for table in (ITEM_EMBEDDINGS, EMBEDDING_FAILURES):
                    delisted += lake.delete_matching(table, gone, within=of_model)
            else:
                retired += retire_model(lake, version)
                job.note(f"{version} is retired: nothing was embedded or indexed under it since {last_use}")
    job.figure("rows_of_retired_models", retired)
    job.figure("rows_of_delisted_items", delisted)
    return retired + delisted


def remove_models(job: JobRun, options: Options, in_use: Collection[str], uses: Mapping[str, dt.date]) -> int:
    """Remove the folders of models that were made and last used long ago; their rows stay, retired.

    Returns:
        How many went.
    """
    lake = job.lake
    unused_since = options.date - dt.timedelta(days=options.model_days)
    unused = {version for version, last_use in uses.items() if last_use < unused_since} - set(in_use)
    gone = sorted(version for version in unused if lake.fs.exists(lake.path("models", version)))
    if gone:
        never_used = F.col("model_version").isin(gone) & (F.col("stage") != "retired")
        lake.update(MODELS, never_used, {"stage": F.lit("retired")})
        for version in gone:
            lake.fs.rm(lake.path("models", version), recursive=True)
        job.note(f"folders of models that were not used since {unused_since} went: {', '.join(gone)}")
    job.figure("models", len(gone))
    return len(gone)


def remove_tries(lake: Lake) -> None:
    """Remove the leases of tries that ended without giving theirs back, and that nobody repeated."""
    for name in files_below(lake, LEASES):
        if name.startswith(f"{LEASES}/{TRY}") and _is_abandoned(lake, [name]):
            lake.fs.rm(lake.path(name))


def remove_training_sets(lake: Lake, keep: int) -> int:
    """Remove all training sets but the newest, row first; returns how many went."""
    newest_first = lake.read(TRAINING_SETS).orderBy(F.desc("created_at"), "training_set_id").collect()
    for row in newest_first[keep:]:
        lake.delete(TRAINING_SETS, F.col("training_set_id") == row["training_set_id"])
        folder = lake.path(TRAINING_SETS_FOLDER, row["training_set_id"])
        if lake.fs.exists(folder):
            lake.fs.rm(folder, recursive=True)
    return len(newest_first[keep:])


def remove_reports(lake: Lake, written_before: dt.datetime) -> int:
    """Remove the pages that nobody has written to since then; returns how many went."""
    pages = [name for name in files_below(lake, REPORTS) if lake.fs.modified(lake.path(name)) < written_before]
    for folder in {lake.path(*name.split("/")[:2]) for name in pages}:
        lake.fs.rm(folder, recursive=True)
    return len(pages)


def run(job: JobRun, options: Options) -> None:
    """Old builds first, because the models of those that stay are in use.  Then vectors, events and folders."""
    lake = job.lake
    with job.stage("builds"):
        in_use, folders = remove_builds(job, options)
    promoted = newest_promoted_model(lake)
    if promoted is not None:
        in_use.add(promoted["model_version"])
    uses = last_uses(lake)
    with job.stage("vectors"):
        vectors = remove_vectors(job, options, in_use, uses)
    with job.stage("events"):
        kept_from = F.lit(options.date - dt.timedelta(days=options.query_event_days))
        events = lake.delete(QUERY_EVENTS, F.col("event_date") < kept_from)
        refused = lake.delete(REJECTED_ROWS, F.col("logical_date") < kept_from)
    job.figure("query_events", events)
    job.figure("rejected_rows", refused)
    with job.stage("folders"):
        models = remove_models(job, options, in_use, uses)
        remove_tries(lake)
        training_sets = remove_training_sets(lake, options.keep_training_sets)
        midnight = dt.datetime.combine(options.date, dt.time(), dt.UTC)
        reports = remove_reports(lake, midnight - dt.timedelta(days=options.report_days))
    job.figure("training_sets", training_sets)
    job.figure("reports", reports)
    job.count(rows_out=vectors + events + refused)
    if not folders + vectors + events + refused + models + training_sets + reports:
        job.unchanged()


def retire_model(lake: Lake, version: str) -> int:
    """Forget what a model embedded, and what it could not; its folder stays.

    Returns:
        How many rows that were.
    """
    of_model = F.col("model_version") == version
    removed = sum(lake.delete(table, of_model) for table in OF_A_MODEL)
    remove_staged(lake, version)
    lake.update(MODELS, of_model & (F.col("stage") != "retired"), {"stage": F.lit("retired")})
    return removed


if __name__ == "__main__":
    main(run, Options)
