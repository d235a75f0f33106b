"""What a build would be and cost, said before anything is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pyspark.sql import Row
from pyspark.sql import functions as F
from rich.filesize import decimal

from jobs.core.job import JobRun
from jobs.core.lake import Lake
from jobs.index.choosing import IndexChoice
from jobs.index.layout import Layout
from jobs.index.survey import Survey
from schemas import JOB_RUNS

# What a task takes beside its shard's index: Python with its libraries, and a batch of rows.
_TASK_BYTES = 300 * 2**20
# Of a row in the items file beside its vector, where no build is there to go by: id, title, digests, weights.
_ROW_BYTES = 120
# Stages of a run that take the longer the more items there are.
_GROWING = ("read", "train", "write", "tune")
# Figure of a run that wrote a build: bytes of all its files.
BYTES_FIGURE = "build_bytes"


@dataclass(frozen=True)
class PastBuild:
    """What an earlier run took that wrote a build.

    Attributes:
        run_id: The run.
        index_key: What kind of index it built.
        items: Vectors in it.
        bytes_an_item: Of all files of the build.
        fixed_seconds: What does not grow with the items: the session's start, the record.
        item_seconds: Everything else, for an item.
    """

    run_id: str
    index_key: str
    items: int
    bytes_an_item: float
    fixed_seconds: float
    item_seconds: float

    @classmethod
    def of(cls, record: Row) -> Self:
        """From a row of `job_runs`."""
        growing = sum(record["seconds"].get(stage, 0.0) for stage in _GROWING)
        wall = (record["finished_at"] - record["started_at"]).total_seconds()
        return cls(
            run_id=record["run_id"],
            index_key=record["index_key"],
            items=record["rows_out"],
            bytes_an_item=record["figures"][BYTES_FIGURE] / record["rows_out"],
            fixed_seconds=max(0.0, wall - growing),
            item_seconds=growing / record["rows_out"],
        )


def last_build(lake: Lake, index_key: str) -> PastBuild | None:
    """The newest run that wrote a build of this kind, else of another; None without any."""
    record = (
        lake.read(JOB_RUNS)
        .where("job = 'index build' AND verdict = 'succeeded'")
        .where(F.col("figures")[BYTES_FIGURE] > 0)
        .withColumn("index_key", F.get_json_object("arguments", "$.index_key"))
        .orderBy((F.col("index_key") == index_key).desc(), F.desc("finished_at"))
        .first()
    )
    return PastBuild.of(record) if record else None


def say_plan(job: JobRun, survey: Survey, layout: Layout, choice: IndexChoice, *, model_version: str) -> None:
    """Print what would be built, and the memory, size and time that it would take."""
    (dimension,) = survey.dimensions
    past = last_build(job.lake, choice.index_key)
    vector = choice.key.bytes_a_vector(dimension)
    an_item = past.bytes_an_item if past else vector + 4 * dimension + _ROW_BYTES
    # Shards of a hash are about equally large.
    largest = max(part.vectors / shards for part, shards in zip(layout.parts, layout.shards, strict=True))
    of_parts = f" of {len(layout.parts):,} parts" if layout.column else ""
    a_task, mapped, size = (
        decimal(round(amount))
        for amount in (largest * vector + _TASK_BYTES, survey.covered * vector, survey.covered * an_item)
    )
    lines = {
        "model": model_version,
        "items": f"{survey.covered:,} of {survey.active:,} active ones, vectors of {dimension}",
        "index": f"{choice.index_key}, {layout.count:,} shards{of_parts}",
        "memory": f"about {a_task} a task that builds; a search maps {mapped}",
        "size": f"about {size} on disk",
        "time": _time(survey.covered, past, choice.index_key),
    }
    job.console.print(f"{job.name}: plan for {job.logical_date}", style="bold", markup=False)
    for name, text in lines.items():
        job.console.print(f"  {name:<15} {text}", markup=False)


def _time(items: int, past: PastBuild | None, index_key: str) -> str:
    if past is None:
        return "unknown: no run has written a build yet to predict from"
    seconds = past.fixed_seconds + items * past.item_seconds
    other = "" if past.index_key == index_key else f", which built {past.index_key}: take it as a hint"
    return f"about {seconds:,.0f} s, by run {past.run_id} over {past.items:,} items{other}"
