"""Put small files of every table together, then remove files that no version of the last weeks needs.

Reads:  every table
Writes: their files, and no row
"""

from __future__ import annotations

from functools import partial

from pydantic import Field
from pyspark.sql import functions as F

from jobs.core.frames import at_once, settings
from jobs.core.job import DatedOptions, JobRun, main
from jobs.core.lake import Lake
from jobs.core.lease import held_lease
from jobs.embedding.vectors import lease_name
from schemas import ALL_TABLES, ITEM_EMBEDDINGS, JOB_RUNS
from schemas.table import Table, sql_literal, sql_path

_SETTINGS = {
    # Bytes: a smaller file is put together with others, to files that are no larger than the second.
    "spark.databricks.delta.optimize.minFileSize": str(16 * 2**20),
    "spark.databricks.delta.optimize.maxFileSize": str(128 * 2**20),
    # Without it a table's history would not say how many files went.
    "spark.databricks.delta.vacuum.logging.enabled": "true",
}


class Options(DatedOptions):
    """Put small files of every table together, and remove those of versions that are too old to be read back."""

    history_days: int = Field(
        30, ge=7, description="Days that versions of tables can be read back; a week is the least that Delta allows."
    )


def compact(lake: Lake, table: Table, within: str | None = None) -> int:
    """Make few files of many small ones; readers and change data feeds see no difference.

    Args:
        lake: The lake.
        table: The table.
        within: A condition on partition columns, in SQL, that limits it; None: all of it.

    Returns:
        How many files it took the place of; without any it writes no version.
    """
    optimize = lake.delta(table).optimize()
    optimize = optimize if within is None else optimize.where(within)
    return optimize.executeCompaction().select("metrics.numFilesRemoved").first()[0]


def vacuum(lake: Lake, table: Table, days: int) -> int:
    """Remove the files that no version of the last days needs; returns how many, and without any writes no version."""
    command = f"VACUUM {sql_path(lake.table_uri(table))} RETAIN {24 * days} HOURS"
    spark = lake.read(table).sparkSession
    if spark.sql(f"{command} DRY RUN").isEmpty():
        return 0
    spark.sql(command)
    ended = lake.delta(table).history().where("operation = 'VACUUM END'").orderBy(F.desc("version"))
    return int(ended.select("operationMetrics.numDeletedFiles").first()[0])


def run(job: JobRun, options: Options) -> None:
    """Vectors are compacted model by model, each while nothing is embedded under it; the rest side by side."""
    lake = job.lake
    tables = [table for table in ALL_TABLES if lake.exists(table)]
    with settings(job.spark, _SETTINGS):
        with job.stage("compact"):
            others = (partial(compact, lake, table) for table in tables if table not in (ITEM_EMBEDDINGS, JOB_RUNS))
            compacted = sum(at_once(*others)) + compact_vectors(job)
            of_runs = compact(lake, JOB_RUNS)  # there is always some: the record of the run before this one
        with job.stage("vacuum"):
            vacuumed = sum(at_once(*(partial(vacuum, lake, table, options.history_days) for table in tables)))
    job.figure("files_compacted", compacted + of_runs)
    job.figure("files_vacuumed", vacuumed)
    if not compacted + vacuumed:
        job.unchanged()


def compact_vectors(job: JobRun) -> int:
    """Compact `item_embeddings`; returns how many files it took the place of."""
    vectors, compacted = job.lake.read(ITEM_EMBEDDINGS), 0
    for (version,) in vectors.select("model_version").distinct().orderBy("model_version").collect():
        with held_lease(job, lease_name(version)):
            compacted += compact(job.lake, ITEM_EMBEDDINGS, f"model_version = {sql_literal(version)}")
    return compacted


if __name__ == "__main__":
    main(run, Options)
