"""What a run that embeds items would do and cost, said without opening a model."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Row
from pyspark.sql import functions as F
from rich.filesize import decimal

from jobs.core.job import JobRun
from jobs.core.lake import Lake
from jobs.embedding.inference import tasks_for
from jobs.embedding.work import REASONS, Work, replaced_vectors
from schemas import ITEM_EMBEDDINGS, ITEM_IMAGES, JOB_RUNS, MODELS

# A vector's row beside the vector itself: ids, digest, weights, as Parquet holds them.
_ROW_BYTES = 120
# What a row adds to the merge where it takes another's place, on two cores (benchmarks/churn.py); a row that is only
# added costs next to nothing there.
_REPLACED_ROW_SECONDS = 0.0002


@dataclass(frozen=True)
class PastRun:
    """What an earlier run cost, in what comes once and what comes with every item.

    Attributes:
        run_id: The run.
        model_version: The model that it embedded under.
        items: How many items it embedded.
        fixed_seconds: All of its wall time but that of its items: the session, finding the work, opening the model,
            beginning the merge.
        item_seconds: Wall seconds of a task for an item.
        item_cpu_seconds: CPU seconds for an item; a task cannot go faster when all slots are busy.
        slots: Tasks that ran at a time.
    """

    run_id: str
    model_version: str
    items: int
    fixed_seconds: float
    item_seconds: float
    item_cpu_seconds: float
    slots: int

    @classmethod
    def of(cls, record: Row) -> PastRun:
        """From a row of `job_runs` whose run measured its pace."""
        figures, items = record["figures"], record["rows_out"] + record["rows_rejected"]
        slots = int(figures["slots"])
        item_seconds = figures["paced_seconds"] / figures["paced_items"]
        wall = (record["finished_at"] - record["started_at"]).total_seconds()
        replaced = replaced_vectors({reason: figures.get(f"items_{reason}", 0) for reason in REASONS})
        of_items = items * item_seconds / min(slots, tasks_for(items, slots=slots)) + replaced * _REPLACED_ROW_SECONDS
        return cls(
            run_id=record["run_id"],
            model_version=record["model_version"],
            items=items,
            fixed_seconds=max(0.0, wall - of_items),
            item_seconds=item_seconds,
            item_cpu_seconds=figures["paced_cpu_seconds"] / figures["paced_items"],
            slots=slots,
        )

    def predict(self, items: int, *, replaced: float = 0, executors: int = 1) -> float:
        """Wall seconds of a run over so many items, on so many machines like the one of this run.

        Args:
            items: How many items it is to embed.
            replaced: How many of them have a vector already, which the new one replaces.
            executors: Machines, each with the slots that this run had.
        """
        slots = self.slots * executors
        busy = min(slots, tasks_for(items, slots=slots))
        an_item = max(self.item_seconds, self.item_cpu_seconds) if busy == slots else self.item_seconds
        return self.fixed_seconds + items * an_item / busy + replaced * _REPLACED_ROW_SECONDS / executors


def last_paced_run(lake: Lake, model_version: str) -> PastRun | None:
    """The newest run under this model that was long enough to have a pace, else under another; None without any."""
    record = (
        lake.read(JOB_RUNS)
        .where("job = 'embedding items' AND verdict = 'succeeded' AND figures['paced_items'] > 0")
        .withColumn("model_version", F.get_json_object("arguments", "$.model_version"))
        .orderBy((F.col("model_version") == model_version).desc(), F.desc("finished_at"))
        .first()
    )
    return PastRun.of(record) if record else None


def say_plan(job: JobRun, work: Work, *, model_version: str, executors: int | None) -> None:
    """Print what there is to embed and why, and what it would read, take and add."""
    why = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in work.by_reason.items())
    photo_bytes, title_bytes = _bytes_to_read(job.lake, work)
    lines = {
        "model": model_version,
        "items to embed": f"{work.total:,} of {work.active_items:,} active ones" + (f": {why}" if why else ""),
        "to read": f"{decimal(photo_bytes)} of photos, {decimal(title_bytes)} of titles",
        "table grows by": f"about {decimal(round(work.total * _bytes_a_row(job.lake, model_version)))}",
        "time": _time(work, last_paced_run(job.lake, model_version), executors),
    }
    job.console.print(f"{job.name}: plan for {job.logical_date}", style="bold", markup=False)
    for name, text in lines.items():
        job.console.print(f"  {name:<15} {text}", markup=False)


def _time(work: Work, past: PastRun | None, executors: int | None) -> str:
    if work.total == 0:
        return "none but the session's start: no model is opened"
    if past is None:
        return "unknown: no run has embedded enough items yet to predict from"
    replaced = replaced_vectors(work.by_reason)
    seconds = past.predict(work.total, replaced=replaced)
    told = [f"about {seconds:,.0f} s as the last run was made ({past.slots} tasks at a time)"]
    if executors is not None:
        seconds = past.predict(work.total, replaced=replaced, executors=executors)
        told.append(f"about {seconds:,.0f} s on {executors} executors of that size")
    return f"{', '.join(told)}; from run {past.run_id} over {past.items:,} items under {past.model_version}"


def _bytes_to_read(lake: Lake, work: Work) -> tuple[int, int]:
    """Bytes of the photos, each once, and of the titles."""
    wanted = work.rows.select(F.col("image_sha256").alias("content_sha256")).distinct()
    photos = lake.read(ITEM_IMAGES).select("content_sha256", "bytes")
    (photo_bytes,) = photos.join(wanted, on="content_sha256", how="left_semi").agg(F.sum("bytes")).first()
    (title_bytes,) = work.rows.agg(F.sum(F.octet_length("title"))).first()
    return photo_bytes or 0, title_bytes or 0


def _bytes_a_row(lake: Lake, model_version: str) -> float:
    """Bytes that the table holds for a row; without any row, what a vector of the model takes."""
    detail = lake.delta(ITEM_EMBEDDINGS).detail().first()
    rows = lake.read(ITEM_EMBEDDINGS).count()
    if rows:
        return detail["sizeInBytes"] / rows
    model = lake.read(MODELS).where(F.col("model_version") == model_version).first()
    return 4 * model["dimension"] + _ROW_BYTES
