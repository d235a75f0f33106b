"""Bring a lake that an older release wrote to the present declarations of its tables.

Reads and writes: every table of the lake; their rows stay as they are
"""

from __future__ import annotations

from jobs.core.job import JobError, JobOptions, JobRun, main
from schemas import ALL_TABLES
from schemas.table import SchemaMismatchError


class Options(JobOptions):
    """Bring the lake's tables to their present declarations. No other job may be at work."""


def run(job: JobRun, options: Options) -> None:
    """Change what can be changed in place, table by table, and name what cannot."""
    lake, stuck, changed = job.lake, [], 0
    tables = [table for table in ALL_TABLES if lake.exists(table)]
    for table in tables:
        try:
            differences = table.migrate(job.spark, lake.table_uri(table))
        except SchemaMismatchError as error:
            stuck.append(str(error))
            continue
        changed += bool(differences)
        for difference in differences:
            job.note(f"{table.name}: {difference}")
    job.count(rows_in=len(tables), rows_out=changed, rows_rejected=len(stuck))
    if stuck:
        raise JobError(" ".join(stuck))
    if not changed:
        job.unchanged()


if __name__ == "__main__":
    main(run, Options)
