"""A training and a night tell a collector which tables each of their jobs read and wrote, and miss none."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from jobs.catalog import generate
from schemas import ALL_TABLES, JOB_RUNS
from scripts.environment import ROOT, SPARK_PROPERTIES, spark_environment
from tests.chain.test_nights import FIRST, Market
from tests.collector import listening_collector

TABLES = {table.name for table in ALL_TABLES}
LISTENER = "io.openlineage:openlineage-spark_2.13:1.53.0"

# What a job's file names and its run has no need of: held-out clicks where queries are judged, an earlier build's time
# for a plan, the folder of models, failures where nothing fails.
NOT_READ = {
    "make.training.evaluate": {"training_sets"},
    "make.index.build": {"job_runs"},
    "make.operations.report": {"models"},
}
NOT_WRITTEN = {"make.embedding.items": {"embedding_failures"}}

pytestmark = pytest.mark.slow


@pytest.fixture
def collector(monkeypatch):
    with listening_collector() as collector:
        monkeypatch.setenv("OPENLINEAGE_URL", collector.url)
        yield collector


def tables_of(datasets: Iterable[dict]) -> set[str]:
    """The lake's tables among data sets."""
    return {Path(dataset["name"]).name for dataset in datasets if "/lake/tables/" in dataset["name"]}


def declared(job_name: str) -> tuple[set[str], set[str]]:
    """Tables that a job says it reads, and those that it says it writes, at the head of its file."""
    module = importlib.import_module(job_name.replace("make.", "jobs."))
    text = ast.get_docstring(ast.parse(Path(module.__file__).read_text()))
    parts = re.search(r"^Reads:(.*)^Writes:(.*?)(\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    reads, writes = ({word for word in re.findall(r"\w+", parts[number]) if word in TABLES} for number in (1, 2))
    return reads - NOT_READ.get(job_name, set()), writes - NOT_WRITTEN.get(job_name, set()) | {JOB_RUNS.name}


def differences(events: list[dict]) -> dict[str, tuple[set[str], set[str]]]:
    """Job to the tables that either its events or its file name, but not both: inputs, outputs."""
    told = defaultdict(lambda: (set(), set()))
    for event in events:
        inputs, outputs = told[event["job"]["name"]]
        inputs |= tables_of(event["inputs"])
        outputs |= tables_of(event["outputs"])
    found = {}
    for job_name, (inputs, outputs) in told.items():
        reads, writes = declared(job_name)
        if (inputs, outputs) != (reads, writes):
            found[job_name] = (inputs ^ reads, outputs ^ writes)
    return found


def test_every_table_of_a_training_and_a_night_is_input_and_output_of_its_jobs(lake, collector, run_job, tmp_path):
    folder = tmp_path / "data"
    run_job(generate, output=str(folder), items=120, days=2, date=FIRST, seed=18)
    collector.events.clear()
    market = Market(run_job, folder)
    jobs = len(market.training(FIRST)) + len(market.night(FIRST))

    runs = [event["run"]["runId"] for event in collector.events]
    assert [event["eventType"] for event in collector.events] == ["START", "COMPLETE"] * jobs
    assert runs[::2] == runs[1::2]
    assert len(set(runs)) == jobs
    assert differences(collector.events) == {}


def test_the_runs_of_sparks_own_listener_hang_below_the_jobs(collector, tmp_path):
    arguments = ["--properties-file", str(SPARK_PROPERTIES), "--packages", LISTENER]
    for setting in (
        "spark.extraListeners=io.openlineage.spark.agent.OpenLineageSparkListener",
        "spark.openlineage.transport.type=http",
        f"spark.openlineage.transport.url={collector.url}",
    ):
        arguments += ["--conf", setting]
    session = ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET")
    environment = {name: value for name, value in spark_environment().items() if name not in session}
    environment["PYSPARK_SUBMIT_ARGS"] = shlex.join([*arguments, "pyspark-shell"])
    places = ("--lake", str(tmp_path / "lake"), "--log-dir", str(tmp_path / "logs"), "--output", str(tmp_path / "data"))
    command = [sys.executable, "-m", "jobs", "catalog", "generate", "--items=100", "--days=2", *places]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if "unresolved dependency" in (tmp_path / "logs" / "jobs.log").read_text():
        pytest.skip(f"needs {LISTENER}, which cannot be resolved here")
    assert ended.returncode == 0, ended.stderr
    runs = {event["job"]["name"]: event for event in collector.events if event["eventType"] == "START"}
    job, application = runs["make.catalog.generate"], runs["make_catalog_generate"]
    assert application["run"]["facets"]["parent"]["run"]["runId"] == job["run"]["runId"]
    below = [event for name, event in runs.items() if name.startswith("make_catalog_generate.")]
    assert {event["run"]["facets"]["parent"]["run"]["runId"] for event in below} == {application["run"]["runId"]}
    written = {dataset["name"] for event in below for dataset in event["outputs"]}
    assert str(tmp_path / "data" / "2026-11-20" / "catalog") in written
