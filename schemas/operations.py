"""The table of runs: the single record of what every job did."""

from schemas.table import DATE, FIGURES, LONG, STRING, STRINGS, TIMESTAMP, Column, Table

JOB_RUNS = Table(
    name="job_runs",
    comment="One row an execution of a job.",
    columns=(
        Column("run_id", STRING, "The orchestrator's run, shared by its tasks.", nullable=False),
        Column("job", STRING, "Domain and job, as on the command line.", nullable=False),
        Column("logical_date", DATE, "The date that the run is for; null for jobs without one."),
        Column("arguments", STRING, "Options after validation, as JSON.", nullable=False),
        Column("started_at", TIMESTAMP, "When the process began.", nullable=False),
        Column("finished_at", TIMESTAMP, "When the job ended.", nullable=False),
        Column("rows_in", LONG, "Rows that came."),
        Column("rows_out", LONG, "Rows accepted or written."),
        Column("rows_rejected", LONG, "Rows refused or failed."),
        Column(
            "seconds",
            FIGURES,
            "Wall seconds by stage; 'startup' ends with the session.",
            nullable=False,
        ),
        Column("figures", FIGURES, "Whatever else the job measured, by name.", nullable=False),
        Column("verdict", STRING, "succeeded, unchanged, skipped or failed.", nullable=False),
        Column("notes", STRINGS, "What a person should read.", nullable=False),
    ),
    key=("run_id", "job", "started_at"),
    checks={"known_verdict": "verdict IN ('succeeded', 'unchanged', 'skipped', 'failed')"},
)
