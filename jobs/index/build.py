"""Build the sharded FAISS index of the active items' vectors, unless it would equal one that exists.

Reads:  items, item_embeddings, models, index_builds
Writes: index_builds, indexes/<build_id>/
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from operator import itemgetter

import faiss
import numpy as np
import pyarrow as pa
from pydantic import Field
from pyspark import Broadcast
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from jobs.core.job import DatedOptions, JobError, JobRun, main
from jobs.core.serving import named_model
from jobs.index.builds import INDEXES, find_build, newest_build, record_build, write_atomically
from jobs.index.choosing import INDEX_KEY_PATTERN, IndexChoice, choose_index
from jobs.index.manifest import MANIFEST_FILE, Content, Manifest, ShardEntry
from jobs.index.shard import ITEM_COLUMNS, ShardWriter, vectors_of
from schemas import INDEX_BUILDS, ITEM_EMBEDDINGS, ITEMS

# What a row of the build says beside its vector, which content_hash and the model version determine.
_CONTENT = ("item_id", "title", "category", "price", "content_hash", "image_sha256")
_DIGEST_BUCKETS = 256
_ENTRY_SCHEMA = "number long, rows long, file string, sha256 string, items_file string, items_sha256 string"


class Options(DatedOptions):
    """Build the sharded FAISS index of the active items' vectors, unless it would equal one that exists."""

    model_version: str | None = Field(
        None, description="Index this model's vectors instead of the serving one's; 'promoted': the last one promoted."
    )
    index_key: str | None = Field(
        None,
        pattern=INDEX_KEY_PATTERN,
        description="FAISS factory string: Flat, IVF<lists>,Flat or IVF<lists>_HNSW<links>,Flat; else by size.",
    )
    shards: int | None = Field(None, ge=1, description="Number of shards; else by size.")


@dataclass(frozen=True)
class Survey:
    """What there is to index.

    Args:
        active: Active items.
        covered: Those with a vector of their present content.
        dimensions: Every length of vector that occurs.
        sha256: Digest of the covered items' content, whatever their order.
    """

    active: int
    covered: int
    dimensions: tuple[int, ...]
    sha256: str


def indexable_items(items: DataFrame, embeddings: DataFrame, *, model_version: str) -> DataFrame:
    """Every active item with `ITEM_COLUMNS`; those of the vector are null where its present content has none."""
    same_content = (F.col("i.item_id") == F.col("e.item_id")) & (F.col("i.content_hash") == F.col("e.content_hash"))
    vectors = embeddings.where(F.col("model_version") == model_version)
    from_items = [f"i.{name}" for name in ITEM_COLUMNS if name in items.columns]
    from_vectors = [f"e.{name}" for name in ITEM_COLUMNS if name not in items.columns]
    return (
        items.where("is_active")
        .alias("i")
        .join(vectors.alias("e"), on=same_content, how="left")
        .select(*from_items, *from_vectors)
    )


def survey_items(rows: DataFrame) -> Survey:
    """Count and digest `indexable_items` in one pass."""
    digest = F.when(F.col("embedding").isNotNull(), F.sha2(F.to_json(F.struct(*_CONTENT)), 256))
    buckets = (
        rows.groupBy(F.pmod(F.xxhash64("item_id"), F.lit(_DIGEST_BUCKETS)).alias("bucket"))
        .agg(
            F.count("*").alias("active"),
            F.count("embedding").alias("covered"),
            F.collect_set(F.size("embedding")).alias("dimensions"),
            F.sha2(F.concat_ws("", F.sort_array(F.collect_list(digest))), 256).alias("sha256"),
        )
        .orderBy("bucket")
        .collect()
    )
    return Survey(
        active=sum(bucket["active"] for bucket in buckets),
        covered=sum(bucket["covered"] for bucket in buckets),
        dimensions=tuple(sorted({length for bucket in buckets for length in bucket["dimensions"] if length >= 0})),
        sha256=_sha256([[bucket["bucket"], bucket["sha256"]] for bucket in buckets if bucket["covered"]]),
    )


def train_empty_index(rows: DataFrame, survey: Survey, choice: IndexChoice) -> np.ndarray:
    """The index of every shard before it holds a vector, serialised by FAISS.

    Its centroids come from a sample that the item ids decide, so the same vectors always give the same index.
    """
    (dimension,) = survey.dimensions
    index = faiss.index_factory(dimension, choice.index_key, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        millionths = min(1_000_000, 1 + 1_000_000 * choice.training_vectors // survey.covered)
        sampled = F.pmod(F.xxhash64("item_id", F.lit("train")), F.lit(1_000_000)) < millionths
        sample = vectors_of(rows.where(sampled).orderBy("item_id").select("embedding").toArrow())
        lists = faiss.extract_index_ivf(index).nlist
        if len(sample) < lists:
            raise JobError(
                f"--index-key {choice.index_key} needs {lists:,} vectors to train on, there are {len(sample):,}: "
                "name fewer lists, or leave the choice to the job"
            )
        index.train(sample)
    return faiss.serialize_index(index)


def shard_of(shards: int) -> Column:
    """The shard of an item: a hash of its id, the same on every night."""
    return F.pmod(F.xxhash64("item_id"), F.lit(shards)).cast("int")


def write_shards(rows: DataFrame, *, folder: str, shards: int, trained: Broadcast) -> list[ShardEntry]:
    """Write every shard that has items, each as its sorted rows stream by.

    Args:
        rows: `ITEM_COLUMNS`, with a vector each.
        folder: The build's folder.
        shards: Number of shards.
        trained: The empty trained index.

    Raises:
        JobError: A shard was written twice, or not all rows were written.
    """

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        faiss.omp_set_num_threads(1)  # tasks run side by side already
        for number, parts in groupby(_split_by_shard(batches), key=itemgetter(0)):
            with ShardWriter(folder, number, shards, trained.value) as writer:
                for _, part in parts:
                    writer.add(part)
                entry = writer.finish()
            yield pa.RecordBatch.from_pylist([entry.model_dump()])

    # Partitioning hashes the shard number, so that two shards may meet in a partition and stream through it in turn.
    entries = (
        rows.select(*ITEM_COLUMNS, shard_of(shards).alias("shard"))
        .repartition(shards, "shard")
        .sortWithinPartitions("shard", "item_id")
        .mapInArrow(write, _ENTRY_SCHEMA)
        .collect()
    )
    return sorted((ShardEntry(**entry.asDict()) for entry in entries), key=lambda entry: entry.number)


def _split_by_shard(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Rows sorted by shard as runs of one shard each; a shard's runs follow each other."""
    for batch in batches:
        numbers = batch.column("shard").to_numpy()
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1), len(numbers)]
        for start, end in pairwise(edges):
            if start < end:
                yield int(numbers[start]), batch.slice(start, end - start)


def name_build(survey: Survey, choice: IndexChoice, model_version: str) -> str:
    """The build's name: a digest of what goes in and how, so that an unchanged night names the same build."""
    return f"build-{_sha256([model_version, survey.dimensions, survey.sha256, asdict(choice)])[:12]}"


def run(job: JobRun, options: Options) -> None:
    """Survey, choose, and write what is not written yet."""
    model_version = named_model(job.lake, options.model_version)
    with job.stage("read"):
        versions = job.lake.versions(ITEMS, ITEM_EMBEDDINGS)
        items, embeddings = (job.lake.read(table, versions[table.name]) for table in (ITEMS, ITEM_EMBEDDINGS))
        rows = indexable_items(items, embeddings, model_version=model_version)
        survey = survey_items(rows)
    job.count(rows_in=survey.active, rows_out=survey.covered, rows_rejected=survey.active - survey.covered)
    if survey.covered == 0:
        raise JobError(
            f"none of {survey.active:,} active items has a vector of {model_version} for its present content: "
            f"run `embedding items --date {options.date}` first"
        )
    if len(survey.dimensions) > 1:
        raise JobError(
            f"item_embeddings mixes vectors of lengths {', '.join(map(str, survey.dimensions))} under {model_version}: "
            "one model makes one length; delete the rows that another program wrote and embed them again"
        )
    if survey.covered < survey.active:
        job.note(f"{survey.active - survey.covered:,} active items have no vector yet and cannot be found")

    (dimension,) = survey.dimensions
    choice = choose_index(survey.covered, dimension, index_key=options.index_key, shards=options.shards)
    build_id = name_build(survey, choice, model_version)
    existing = find_build(job.lake, build_id)
    if existing is not None and job.lake.fs.exists(job.lake.path(INDEXES, build_id, MANIFEST_FILE)):
        _use_again(job, existing, options.date)
        return

    with_vectors = rows.where(F.col("embedding").isNotNull())
    with job.stage("train"):
        trained = train_empty_index(with_vectors, survey, choice)
    with job.stage("write"):
        folder = job.lake.path(INDEXES, build_id)
        if job.lake.fs.exists(folder):
            job.lake.fs.rm(folder, recursive=True)  # what a run that was cut off left
        job.lake.fs.makedirs(folder)
        broadcast = job.spark.sparkContext.broadcast(trained)
        entries = write_shards(
            with_vectors, folder=job.lake.uri(INDEXES, build_id), shards=choice.shards, trained=broadcast
        )
        broadcast.unpersist()
        written = sum(entry.rows for entry in entries)
        if written != survey.covered or len({entry.number for entry in entries}) != len(entries):
            raise JobError(
                f"expected {survey.covered:,} rows, each in one shard, got {written:,} in {len(entries)} files: "
                "the build has no manifest and is not used; run the job again"
            )
        manifest = Manifest(
            build_id=build_id,
            model_version=model_version,
            dimension=dimension,
            index_key=choice.index_key,
            nprobe=choice.nprobe,
            shards=tuple(entries),
            content=Content(items=survey.covered, sha256=survey.sha256),
        )
        write_atomically(job.lake, manifest.to_bytes(), INDEXES, build_id, MANIFEST_FILE)
    with job.stage("record"):
        record_build(
            job,
            {
                **dict.fromkeys(INDEX_BUILDS.column_names),
                "build_id": build_id,
                "logical_date": options.date,
                "model_version": model_version,
                "items": survey.covered,
                "dimension": dimension,
                "shards": choice.shards,
                "index_key": choice.index_key,
                "delta_versions": versions,
                "status": "built",
                "built_at": dt.datetime.now(dt.UTC),
            },
        )
    job.note(f"{build_id}: {survey.covered:,} vectors of {model_version}, {choice.index_key}, {choice.shards} shards")


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


def _sha256(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    main(run, Options)
