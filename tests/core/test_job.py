"""A job's options are checked before it starts, and whatever becomes of it is one line and one record."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from pyspark.errors import SparkRuntimeException
from pyspark.sql import functions as F

from jobs.__main__ import find_jobs
from jobs.core.job import DatedOptions, JobError, JobRun, JobSkipped
from jobs.core.judgments import JudgedOptions
from jobs.core.options import JobOptions, OptionsError, parse_options
from schemas import JOB_RUNS

ROOT = Path(__file__).resolve().parents[2]


def test_the_command_line_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv("MAKE_LAKE", "/from/environment")
    assert parse_options(JobOptions, []).lake == "/from/environment"
    assert parse_options(JobOptions, ["--lake", "/from/option"]).lake == "/from/option"


def test_options_that_do_not_validate_are_named_with_what_came():
    with pytest.raises(OptionsError, match=r"--date \(or MAKE_DATE\): .*got '2026-13-01'"):
        parse_options(DatedOptions, ["--date", "2026-13-01"])
    with pytest.raises(OptionsError, match=r"--date \(or MAKE_DATE\): Field required$"):
        parse_options(DatedOptions, [])
    with pytest.raises(OptionsError, match=r"^--judged-queries and --judgments belong together"):
        parse_options(JudgedOptions, ["--date", "2026-11-01", "--judgments", "x"])


@pytest.mark.parametrize(
    ("error", "verdict", "status"),
    [
        (None, "succeeded", 0),
        (JobSkipped("nothing to serve"), "skipped", 99),
        (JobError("expected 2, got 1"), "failed", 1),
        (KeyError("x"), "failed", 1),
    ],
)
def test_every_ending_is_recorded_with_its_verdict_and_exit_status(lake, spark, error, verdict, status):
    def run(job: JobRun, _options: JobOptions) -> None:
        with job.stage("read"):
            job.count(rows_in=3, rows_out=2, rows_rejected=1)
        if error is not None:
            raise error

    job = JobRun("core test", JobOptions(lake=lake.root, run_id="night-1"))
    assert job.execute(run) == status
    record = lake.read(JOB_RUNS).first()
    assert (record["run_id"], record["verdict"]) == ("night-1", verdict)
    assert (record["rows_in"], record["rows_out"], record["rows_rejected"]) == (3, 2, 1)
    assert set(record["seconds"]) == {"startup", "read"}
    assert json.loads(record["arguments"])["run_id"] == "night-1"
    assert record["notes"] == ([] if error is None else [str(error) if verdict != "failed" else record["notes"][0]])


def test_a_run_that_did_a_part_asks_to_be_run_again_and_one_that_only_looked_leaves_no_record(lake, spark):
    options = JobOptions(lake=lake.root)
    assert JobRun("core test", options).execute(lambda job, _: job.ask_again()) == 75
    assert lake.read(JOB_RUNS).first()["verdict"] == "succeeded"
    assert JobRun("core test", options).execute(lambda job, _: job.leave_no_record()) == 0
    assert lake.read(JOB_RUNS).count() == 1


def test_a_later_try_and_tasks_that_failed_on_the_way_are_in_the_record(lake, spark):
    def run(job: JobRun, _options: JobOptions) -> None:
        with suppress(SparkRuntimeException):
            job.spark.range(1).select(F.raise_error(F.lit("broken"))).collect()
        job.spark.range(1).collect()

    JobRun("core test", JobOptions(lake=lake.root, attempt=2)).execute(run)
    assert lake.read(JOB_RUNS).first()["figures"] == {"attempt": 2.0, "failed_tasks": 1.0}
    JobRun("core next", JobOptions(lake=lake.root)).execute(lambda *_: None)
    assert lake.read(JOB_RUNS).where("job = 'core next'").first()["figures"] == {}


def test_every_job_is_listed_with_its_summary_and_has_help():
    listing = subprocess.run([sys.executable, "-m", "jobs"], cwd=ROOT, capture_output=True, text=True, check=True)
    for domain, jobs in find_jobs().items():
        assert f"\n{domain}\n" in listing.stdout
        for job in jobs:
            assert f"  {job} " in listing.stdout
    unknown = subprocess.run([sys.executable, "-m", "jobs", "index", "bild"], cwd=ROOT, capture_output=True, text=True)
    assert unknown.returncode == 1
    assert "no job is named 'index bild'" in unknown.stderr


def test_every_job_reads_its_options_when_it_is_run_by_name():
    program = """
import sys
from jobs.__main__ import find_jobs, main
for domain, jobs in find_jobs().items():
    for job in jobs:
        try:
            main([domain, job, "--date=never", "--lake=nowhere"])
        except SystemExit as ended:
            print(domain, job, ended.code)
"""
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [f"{domain} {job}" for domain, jobs in find_jobs().items() for job in jobs]
    assert answer.stdout.splitlines() == [f"{name} 2" for name in names]
    for name in names:
        refused = f"Try: python -m jobs {name} --help" in answer.stderr
        assert refused or f"python -m jobs {name}: error: unrecognized arguments: --date" in answer.stderr, name


def test_only_jobs_that_run_a_model_themselves_wait_for_torch_to_be_imported():
    modules = {f"jobs.{file.parent.name}.{file.stem}" for files in find_jobs().values() for file in files.values()}
    light = sorted(modules - {"jobs.index.check", "jobs.index.search", "jobs.training.train"})
    program = (
        f"import sys, {', '.join(light)}; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"
