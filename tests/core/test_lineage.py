"""A job tells a collector how it ended and which tables it read and wrote, where one is configured, and else nobody."""

import datetime as dt
import json
import subprocess
import sys

import pytest

from benchmarks.processes import free_port
from jobs.core.job import DatedOptions, JobError, JobRun
from jobs.core.lineage import dataset_name
from schemas import FORGOTTEN_ITEMS, ITEMS, MODELS
from scripts.environment import ROOT
from tests.collector import listening_collector

DATE = dt.date(2026, 11, 20)


@pytest.fixture
def collector(monkeypatch):
    with listening_collector() as collector:
        monkeypatch.setenv("OPENLINEAGE_URL", collector.url)
        yield collector


def a_job(lake) -> JobRun:
    return JobRun("query-log test", DatedOptions(lake=lake.root, date=DATE, run_id="night-1"))


def names(datasets: list[dict]) -> set[tuple[str, str]]:
    return {(dataset["namespace"], dataset["name"]) for dataset in datasets}


def test_by_default_nothing_is_sent_and_no_client_is_loaded():
    program = """
import sys
from jobs.core.job import JobOptions, JobRun
job = JobRun("core test", JobOptions())
status = job.execute(lambda job, _: job.leave_no_record())
print(status, [name for name in sys.modules if name.startswith("openlineage")])
"""
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout == "0 []\n"


def test_by_default_spark_is_told_nothing_of_lineage(spark):
    assert [key for key, _ in spark.sparkContext.getConf().getAll() if "lineage" in key.lower()] == []


def test_a_run_tells_what_it_read_and_wrote_under_its_own_names(lake, spark, collector, tmp_path):
    def run(job: JobRun, _options: DatedOptions) -> None:
        job.access.sources.append(f"/landing/{DATE}/catalog")
        job.lake.read(FORGOTTEN_ITEMS)
        job.lake.merge(ITEMS, spark.createDataFrame([], ITEMS.schema))

    assert a_job(lake).execute(run) == 0
    began, ended = collector.events
    assert (began["eventType"], began["inputs"], began["outputs"]) == ("START", [], [])
    assert ended["eventType"] == "COMPLETE"
    assert began["run"]["runId"] == ended["run"]["runId"]
    assert (ended["job"]["namespace"], ended["job"]["name"]) == ("default", "make.query_log.test")
    tables = f"{tmp_path}/lake/tables"
    assert names(ended["inputs"]) == {("file", "/landing/{date}/catalog"), ("file", f"{tables}/forgotten_items")}
    assert names(ended["outputs"]) == {("file", f"{tables}/items"), ("file", f"{tables}/job_runs")}
    items = next(output for output in ended["outputs"] if output["name"].endswith("/items"))
    assert [column["name"] for column in items["facets"]["schema"]["fields"]] == ITEMS.column_names
    facets = ended["run"]["facets"]
    tags = {tag["key"]: tag["value"] for tag in facets["tags"]["tags"]}
    assert tags.items() >= {"run_id": "night-1", "verdict": "succeeded"}.items()
    assert facets["nominalTime"]["nominalStartTime"] == "2026-11-20T00:00:00Z"
    assert "parent" not in facets


def test_a_job_that_fails_says_why_below_the_task_that_started_it(lake, spark, collector, monkeypatch):
    task, dag_run = "0191e6a2-0000-7000-8000-000000000001", "0191e6a2-0000-7000-8000-000000000002"
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", f"shop/nights/catalog_nightly.catalog.ingest/{task}")
    monkeypatch.setenv("OPENLINEAGE_ROOT_PARENT_ID", f"shop/nights/catalog_nightly/{dag_run}")
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "shop/nights")

    def run(job: JobRun, _options: DatedOptions) -> None:
        job.lake.read(MODELS)
        raise JobError("expected 2, got 1")

    assert a_job(lake).execute(run) == 1
    ended = collector.events[-1]
    assert ended["eventType"] == "FAIL"
    assert [dataset["name"].rpartition("/")[2] for dataset in ended["inputs"]] == ["models"]
    assert ended["job"]["namespace"] == "shop/nights"
    facets = ended["run"]["facets"]
    assert facets["errorMessage"]["message"] == "expected 2, got 1"
    parent = facets["parent"]
    assert (parent["run"]["runId"], parent["job"]["namespace"]) == (task, "shop/nights")
    assert parent["job"]["name"] == "catalog_nightly.catalog.ingest"
    assert (parent["root"]["run"]["runId"], parent["root"]["job"]["name"]) == (dag_run, "catalog_nightly")


def test_a_collector_that_does_not_answer_changes_nothing_of_the_job(lake, spark, monkeypatch, caplog):
    transport = {"type": "http", "url": f"http://127.0.0.1:{free_port()}", "retry": {"total": 0}}
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT", json.dumps(transport))
    assert a_job(lake).execute(lambda job, _: job.lake.read(MODELS)) == 0
    assert "lineage: COMPLETE of make.query_log.test could not be sent" in caplog.text


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("file:///data/my lake/100%25/items", ("file", "/data/my lake/100%25/items")),
        ("s3a://bucket/lake/tables/items", ("s3://bucket", "lake/tables/items")),
        ("gs://bucket/lake", ("gs://bucket", "lake")),
        ("hdfs://namenode:8020/lake", ("hdfs://namenode:8020", "/lake")),
    ],
)
def test_data_sets_are_named_as_openlineage_names_them(uri, name):
    assert dataset_name(uri) == name
