"""Build the sharded FAISS index of the active items' vectors, unless it would equal one that exists.

Reads:  items, item_embeddings, query_embeddings, models, index_builds, job_runs
Writes: index_builds, indexes/<build_id>/
"""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from pydantic import Field
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.core.job import DatedOptions, JobError, JobRun, main
from jobs.core.lake import Lake
from jobs.core.lease import held_lease
from jobs.core.serving import named_model
from jobs.index.builds import INDEXES, find_build, newest_build, record_build, write_atomically
from jobs.index.choosing import IndexChoice, choose_index
from jobs.index.index_key import INDEX_KEY_PATTERN
from jobs.index.layout import Layout, parts_of, write_shards
from jobs.index.local_files import local_files
from jobs.index.manifest import MANIFEST_FILE, BuildIntegrityError, Content, Effort, Manifest
from jobs.index.plan import BYTES_FIGURE, say_plan
from jobs.index.quantizer import TRAINED_FILE, TrainedIndex, keep_or_train
from jobs.index.searcher import Searcher
from jobs.index.survey import Survey, indexable_items, json_sha256, survey_items
from jobs.index.tuning import Tuned, tune
from schemas import INDEX_BUILDS, ITEM_EMBEDDINGS, ITEMS, QUERY_EMBEDDINGS

# The most frequent queries are those that the gates measure with; these are tuned with the ones after them.
_QUERIES_OF_GATES = 500
_TUNED_WITH = 300
# With fewer queries than this the items themselves say more.
_FEWEST_QUERIES = 100
# Vectors that are enough to tune with, from shards drawn by chance.
_TUNED_OVER = 1_000_000


class Options(DatedOptions):
    """Build the sharded FAISS index of the active items' vectors, unless it would equal one that exists."""

    model_version: str | None = Field(
        None, description="Index this model's vectors instead of the serving one's; 'promoted': the last one promoted."
    )
    index_key: str | None = Field(
        None,
        pattern=INDEX_KEY_PATTERN,
        description="FAISS factory string: Flat, HNSW<links>, IVF<lists>[_HNSW<links>],Flat, or with SQ8, PQ<m>x4fs, "
        "RaBitQ<bits> or RaBitQfs<bits> in place of Flat and ,RFlat behind it; else by size.",
    )
    shards: int | None = Field(None, ge=1, description="Number of shards (of each part); else by size.")
    partition_by: Literal["category"] | None = Field(
        None, description="Give the items of every value of this column shards of their own."
    )
    shard_memory_mib: int = Field(
        128, ge=1, description="What a shard's index may take in the memory of the task that builds it, in MiB."
    )
    recall_target: float = Field(0.98, gt=0, le=1, description="Recall@10 that the effort of searches is tuned to.")
    max_imbalance: float = Field(
        1.25, ge=1, description="How much less even lists may become, as a ratio, before they are trained anew."
    )
    plan: bool = Field(False, description="Only say what would be built, and the memory, size and time it would take.")


def name_build(survey: Survey, layout: Layout, choice: IndexChoice, model_version: str) -> str:
    """The build's name: a digest of what goes in and how, so that an unchanged night names the same build."""
    content = [model_version, survey.dimensions, survey.sha256, asdict(choice), layout.column]
    return f"build-{json_sha256(content)[:12]}"


@dataclass(frozen=True)
class Blueprint:
    """A build before it is made.

    Args:
        build_id: Its name.
        model_version: The model of its vectors.
        rows: `ITEM_COLUMNS` of every covered item.
        survey: What they are.
        choice: What is made of them.
        layout: Which shard each lies in.
        versions: Version of every table that the rows come from.
    """

    build_id: str
    model_version: str
    rows: DataFrame
    survey: Survey
    choice: IndexChoice
    layout: Layout
    versions: dict[str, int]

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self.survey.dimensions[0]


def draw_up(job: JobRun, options: Options, model_version: str) -> Blueprint:
    """Survey what there is to index, and choose what to make of it.

    Raises:
        JobError: There is nothing to index, or vectors differ in length.
    """
    versions = job.lake.versions(ITEMS, ITEM_EMBEDDINGS)
    items, embeddings = (job.lake.read(table, versions[table.name]) for table in (ITEMS, ITEM_EMBEDDINGS))
    survey = survey_items(items, embeddings, model_version=model_version)
    _refuse_unindexable(survey, model_version, options.date)
    rows = indexable_items(items, embeddings, model_version=model_version).where(F.col("embedding").isNotNull())
    parts = parts_of(rows, options.partition_by, survey.covered)
    choice = choose_index(
        [part.vectors for part in parts],
        survey.dimensions[0],
        recall_target=options.recall_target,
        shard_memory_mib=options.shard_memory_mib,
        index_key=options.index_key,
        shards=options.shards,
    )
    layout = Layout(options.partition_by, parts, choice.shards)
    build_id = name_build(survey, layout, choice, model_version)
    return Blueprint(build_id, model_version, rows, survey, choice, layout, versions)


def _refuse_unindexable(survey: Survey, model_version: str, date: dt.date) -> None:
    if survey.covered == 0:
        raise JobError(
            f"none of {survey.active:,} active items has a vector of {model_version} for its present content: "
            f"run `embedding items --date {date}` first"
        )
    if len(survey.dimensions) > 1:
        raise JobError(
            f"item_embeddings mixes vectors of lengths {', '.join(map(str, survey.dimensions))} under {model_version}: "
            "one model makes one length; delete the rows that another program wrote and embed them again"
        )


def run(job: JobRun, options: Options) -> None:
    """Draw the build up; then only say what it would be, or make it if it is not there yet."""
    model_version = named_model(job.lake, options.model_version)
    if options.plan:
        job.leave_no_record()
        plan = draw_up(job, options, model_version)
        say_plan(job, plan.survey, plan.layout, plan.choice, model_version=model_version)
        return
    with held_lease(job, f"index-{model_version}"):
        with job.stage("read"):
            blueprint = draw_up(job, options, model_version)
        survey = blueprint.survey
        job.resolve(model_version=model_version, index_key=blueprint.choice.index_key)
        job.count(rows_in=survey.active, rows_out=survey.covered, rows_rejected=survey.active - survey.covered)
        if survey.covered < survey.active:
            job.note(f"{survey.active - survey.covered:,} active items have no vector yet and cannot be found")
        existing = find_build(job.lake, blueprint.build_id)
        if existing is not None and _is_intact(job.lake, existing):
            _use_again(job, existing, options.date)
        else:
            _make(job, blueprint, options)


def _make(job: JobRun, blueprint: Blueprint, options: Options) -> None:
    """Train or keep the lists, write the shards, tune, seal with the manifest, record."""
    lake, build_id = job.lake, blueprint.build_id
    with job.stage("train"):
        trained = keep_or_train(
            lake,
            blueprint.rows,
            blueprint.choice.key,
            model_version=blueprint.model_version,
            dimension=blueprint.dimension,
            vectors=blueprint.survey.covered,
            max_imbalance=options.max_imbalance,
        )
    with job.stage("write"):
        manifest = _write_shards(job, blueprint, trained)
    with job.stage("tune"):
        manifest, tuned = _tuned(job, manifest, options.recall_target)
    with job.stage("record"):
        write_atomically(lake, manifest.to_bytes(), INDEXES, build_id, MANIFEST_FILE)
        _remove_strays(lake, manifest)
        _record(job, blueprint, options.date)
    job.figure(BYTES_FIGURE, lake.fs.du(lake.path(INDEXES, build_id)))
    for k, recall in tuned.recall.items():
        job.figure(f"tuned_recall_at_{k}", recall)
    if manifest.training:
        job.figure("imbalance", manifest.training.imbalance)
    job.note(
        f"{build_id}: {blueprint.survey.covered:,} vectors of {blueprint.model_version}, {manifest.index_key}, "
        f"{blueprint.layout.count} shards; {trained.origin}"
    )
    if not tuned.reached:
        job.note(
            f"no effort that was tried reaches --recall-target {options.recall_target:g}; the build is searched with "
            f"the best of them: {', '.join(f'recall@{k} {recall:.4f}' for k, recall in tuned.recall.items())}"
        )


def _write_shards(job: JobRun, blueprint: Blueprint, trained: TrainedIndex) -> Manifest:
    """Write everything but the manifest, which is returned, not tuned yet."""
    lake, build_id, survey = job.lake, blueprint.build_id, blueprint.survey
    folder = lake.path(INDEXES, build_id)
    if lake.fs.exists(folder):
        lake.fs.rm(folder, recursive=True)  # what a run that was cut off left
    lake.fs.makedirs(folder)
    broadcast = job.spark.sparkContext.broadcast(trained.content)
    entries, list_sizes = write_shards(
        blueprint.rows, folder=lake.uri(INDEXES, build_id), layout=blueprint.layout, trained=broadcast
    )
    broadcast.unpersist()
    written = sum(entry.rows for entry in entries)
    if written != survey.covered or len({entry.number for entry in entries}) != len(entries):
        raise JobError(
            f"expected {survey.covered:,} rows, each in one shard, got {written:,} in {len(entries)} files: "
            "the build has no manifest and is not used; run the job again"
        )
    training = None
    if blueprint.choice.key.training_vectors:
        lake.fs.pipe_file(lake.path(INDEXES, build_id, TRAINED_FILE), trained.content.tobytes())
        training = trained.described(build_id, list_sizes)
    return Manifest(
        build_id=build_id,
        model_version=blueprint.model_version,
        dimension=blueprint.dimension,
        index_key=blueprint.choice.index_key,
        effort=Effort(),
        training=training,
        partition_by=blueprint.layout.column,
        shards=tuple(entries),
        content=Content(items=survey.covered, sha256=survey.sha256),
    )


def _tuned(job: JobRun, manifest: Manifest, recall_target: float) -> tuple[Manifest, Tuned]:
    """The manifest with the effort of searches: that which reaches the recall, over as many shards as it takes."""
    by_chance = [manifest.shards[n] for n in np.random.default_rng(0).permutation(len(manifest.shards))]
    enough = int(np.searchsorted(np.cumsum([shard.rows for shard in by_chance]), _TUNED_OVER)) + 1
    part = manifest.model_copy(update={"shards": tuple(by_chance[:enough])})
    searcher = Searcher(part, local_files(job.lake.uri(INDEXES, manifest.build_id), part.digests))
    queries = _held_out_queries(job, searcher)
    tuned = tune(searcher, queries, recall_target=recall_target)
    return manifest.model_copy(update={"effort": tuned.effort}), tuned


def _held_out_queries(job: JobRun, searcher: Searcher) -> np.ndarray:
    """(queries, dimension) float32: frequent queries that no gate measures with, or items' own vectors."""
    of_model = F.col("model_version") == searcher.manifest.model_version
    by_frequency = job.lake.read(QUERY_EMBEDDINGS).where(of_model).orderBy(F.desc("impressions"), "query")
    rows = by_frequency.offset(_QUERIES_OF_GATES).limit(_TUNED_WITH).select("embedding").collect()
    if len(rows) >= _FEWEST_QUERIES:
        return np.array([row["embedding"] for row in rows], dtype=np.float32)
    return searcher.vectors(np.random.default_rng(1).permutation(len(searcher))[:_TUNED_WITH])


def _remove_strays(lake: Lake, manifest: Manifest) -> None:
    """Remove what tasks that were killed left behind: whatever the manifest does not name."""
    folder = lake.path(INDEXES, manifest.build_id)
    for path in lake.fs.ls(folder, detail=False):
        if path.rpartition("/")[2] not in {MANIFEST_FILE, *manifest.digests}:
            lake.fs.rm(path)


def _record(job: JobRun, blueprint: Blueprint, date: dt.date) -> None:
    row = {
        **dict.fromkeys(INDEX_BUILDS.column_names),
        "build_id": blueprint.build_id,
        "logical_date": date,
        "model_version": blueprint.model_version,
        "items": blueprint.survey.covered,
        "dimension": blueprint.dimension,
        "shards": blueprint.layout.count,
        "index_key": blueprint.choice.index_key,
        "delta_versions": blueprint.versions,
        "status": "built",
        "built_at": dt.datetime.now(dt.UTC),
    }
    record_build(job, row)


def _is_intact(lake: Lake, existing: Row) -> bool:
    """Whether a build's files are there as they were written; any but the published one is else made anew.

    Raises:
        JobError: They are not, and searches are answered from them.
    """
    folder = lake.uri(INDEXES, existing["build_id"])
    try:
        Manifest.read(folder).verify_files(folder)
    except BuildIntegrityError as error:
        if existing["status"] == "published":
            raise JobError(
                f"{existing['build_id']} is published, has the content of this night, and is damaged: {error}. "
                "Go back with `index rollback`, then build again"
            ) from error
        return False
    return True


def _use_again(job: JobRun, existing: Row, date: dt.date) -> None:
    """The content was built before.  Unless it is published or already the newest of its night, it is judged anew."""
    newest = newest_build(job.lake, date=date, model_version=existing["model_version"])
    is_newest = newest is not None and newest["build_id"] == existing["build_id"]
    if existing["status"] == "published" or existing["logical_date"] > date or is_newest:
        job.unchanged()
        job.note(f"{existing['build_id']} ({existing['status']}) of {existing['logical_date']} has the same content")
        return
    again = {"logical_date": date, "status": "built", "gates": None, "built_at": dt.datetime.now(dt.UTC)}
    record_build(job, {**existing.asDict(recursive=True), **again})
    job.note(f"{existing['build_id']} of {existing['logical_date']} has the same content and is judged again")


if __name__ == "__main__":
    main(run, Options)
