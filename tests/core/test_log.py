"""Every line that a job logs, in Python and in Spark, is JSON and names the run; a traceback is part of one record."""

import json
import subprocess
import sys

import pytest

from jobs.core.frames import at_once
from jobs.core.job import JobRun
from jobs.core.options import JobOptions
from scripts.environment import ROOT, spark_environment

RUN_ID = "catalog_nightly.scheduled__2026-11-20"
# What the JVM itself says of an option that Spark starts it with.
OF_THE_JVM = "WARNING: Using incubator modules: jdk.incubator.vector"
BROKEN_JOB = """
import warnings
from jobs.core.job import JobOptions, main

def run(job, options):
    job.note("about to break")
    warnings.warn("brittle")
    job.spark.range(1).selectExpr("raise_error('in a task')").collect()

main(run, JobOptions)
"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> dict[str, list[dict]]:
    """What a job that broke in a task of Spark has logged, by file."""
    folder = tmp_path_factory.mktemp("broken")
    job = folder / "index" / "broken.py"
    job.parent.mkdir()
    job.write_text(BROKEN_JOB)
    session = ("PYSPARK_SUBMIT_ARGS", "PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET")
    environment = {name: value for name, value in spark_environment().items() if name not in session}
    environment |= {"MAKE_LOG_DIR": str(folder / "logs"), "MAKE_LAKE": str(folder / "lake")}
    command = [sys.executable, str(job), f"--run-id={RUN_ID}"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    return {
        name: [json.loads(line) for line in (folder / "logs" / name).read_text().splitlines() if line != OF_THE_JVM]
        for name in ("jobs.log", "spark.log")
    }


@pytest.mark.parametrize("name", ["jobs.log", "spark.log"])
def test_every_line_names_run_and_job(logs, name):
    assert logs[name]
    for line in logs[name]:
        assert (line["run_id"], line["job"]) == (RUN_ID, "index broken"), line
        assert line["time"] > "2026"
        assert line.keys() >= {"level", "logger", "message", "pid", "thread"}


def test_a_traceback_is_one_record(logs):
    (failed,) = (line for line in logs["jobs.log"] if line.get("error"))
    assert failed["level"] == "ERROR"
    assert failed["error"].startswith("Traceback (most recent call last):\n")
    assert 'index/broken.py", line 8, in run' in failed["error"]
    assert "in a task" in failed["error"]
    (of_task,) = (line for line in logs["spark.log"] if line["logger"].endswith(".Executor"))
    assert of_task["error"].startswith("org.apache.spark.SparkRuntimeException: [USER_RAISED_EXCEPTION] in a task")
    assert "\n\tat " in of_task["error"]


def test_the_log_tells_how_a_run_began_what_it_noted_and_how_it_ended(logs):
    messages = [line["message"] for line in logs["jobs.log"]]
    assert messages[0].startswith("began with {")
    assert "about to break" in messages
    assert any("UserWarning: brittle" in message for message in messages)
    assert messages[-1].startswith("failed after ")


def test_tasks_carry_the_run_to_executors_whichever_thread_asks(lake, spark):
    job = JobRun("core test", JobOptions(lake=lake.root, run_id="night-1"))

    def mark() -> str:
        return job.spark.sparkContext.getLocalProperty("mdc.run_id")

    assert mark() == "night-1"
    assert at_once(mark, mark) == ["night-1", "night-1"]
