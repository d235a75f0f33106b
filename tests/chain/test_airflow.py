"""Airflow as `make airflow` serves it, with real jobs over a tiny catalog, driven as a person drives it."""

import datetime as dt
import json
from contextlib import suppress
from itertools import pairwise

import psutil
import pytest
from pyspark.sql import functions as F

from benchmarks.airflow_client import AirflowClient
from benchmarks.lakes import put_candidate
from benchmarks.processes import free_port, submitted_job, without_session_variables
from jobs.catalog import generate
from jobs.core.lake import Lake
from schemas import ALL_TABLES, INDEX_BUILDS, ITEMS, JOB_RUNS, REJECTED_ROWS
from scripts.airflow_server import HOST, password, running_airflow
from scripts.environment import ROOT
from tests.chat import listening_chat
from tests.collector import listening_collector
from tests.lakes import put_promoted_model

FIRST, SECOND = dt.date(2026, 11, 20), dt.date(2026, 11, 21)
DAGS = {"catalog_nightly", "index_rollback", "make_training", "model_backfill", "table_maintenance"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("airflow")


@pytest.fixture(scope="module")
def lake(spark, folder) -> Lake:
    return Lake(spark, str(folder / "lake"))


@pytest.fixture(scope="module")
def chat():
    with listening_chat() as server:
        yield server


@pytest.fixture(scope="module")
def collector():
    with listening_collector() as server:
        yield server


@pytest.fixture(scope="module")
def server(lake, spark, folder, chat, collector, model_folder, run_job_in):
    """A server over a generated catalog, with a model; yields its port."""
    put_promoted_model(lake, spark, model_folder)
    data = folder / "data"
    run_job_in(lake, generate, output=str(data), items=100, days=2, date=FIRST, seed=18)
    inputs = {
        "MAKE_LAKE": str(folder / "lake"),
        **{f"MAKE_{name.upper()}": str(data / "{date}" / name) for name in ("catalog", "images", "query_log")},
        "MAKE_TASK_RETRIES": "0",
        "MAKE_LATE_AFTER_HOURS": "0.001",
        "AIRFLOW_CONN_MAKE_WEBHOOK": json.dumps({"conn_type": "http", "host": chat.url}),
        "OPENLINEAGE_URL": collector.url,
        # A lost task is found out soon.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "2",
    }
    with pytest.MonkeyPatch.context() as patch, without_session_variables():
        patch.setenv("MAKE_LOG_DIR", str(folder / "logs"))
        port = free_port()
        with running_airflow(folder / "home", port, inputs):
            yield port


@pytest.fixture(scope="module")
def airflow(server, folder) -> AirflowClient:
    """Every DAG is known, and paused."""
    client = AirflowClient(server, password(folder / "home"))
    client.wait_for(lambda: client.dags().keys() >= DAGS, "the DAGs")
    return client


@pytest.fixture(scope="module")
def nights(airflow) -> list[dict]:
    """Two nights that were asked for at once, ended."""
    airflow.unpause("catalog_nightly")
    asked = [airflow.trigger("catalog_nightly", f"{date}") for date in (FIRST, SECOND)]
    return [airflow.ended_run("catalog_nightly", run_id) for run_id in asked]


def versions(lake: Lake) -> dict[str, int]:
    """Of every table but the record of runs, its newest version."""
    return lake.versions(*(table for table in ALL_TABLES if table is not JOB_RUNS))


def test_everything_is_set_up_by_files(airflow):
    files = {kind: json.loads((ROOT / f"conf/airflow/{kind}.json").read_text()) for kind in ("pools", "variables")}
    pools = {pool["name"]: pool["slots"] for pool in airflow.settings("pools")}
    assert pools.items() >= {name: pool["slots"] for name, pool in files["pools"].items()}.items()
    variables = {variable["key"]: json.loads(variable["value"]) for variable in airflow.settings("variables")}
    assert variables == files["variables"]
    (spark_default,) = (one for one in airflow.settings("connections") if one["connection_id"] == "spark_default")
    assert (spark_default["conn_type"], spark_default["host"]) == ("spark", "local[*]")


def test_nothing_listens_beyond_this_machine(server):
    listening = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it may have ended
            if "airflow" in " ".join(process.cmdline()):
                connections = process.net_connections()
                listening |= {one.laddr for one in connections if one.status == psutil.CONN_LISTEN}
    assert (HOST, server) in listening
    assert {address for address, _ in listening} == {HOST}


def test_two_nights_at_once_take_turns_and_the_later_one_has_the_last_word(airflow, nights, lake):
    first, second = nights
    for night in nights:
        states = airflow.states("catalog_nightly", night["dag_run_id"])
        assert night["state"] == "success", states
        assert states.pop("watch") == "skipped"
        assert set(states.values()) == {"success"}, states
    assert first["end_date"] <= second["start_date"]
    runs = lake.read(JOB_RUNS).where("run_id LIKE 'catalog_nightly%'").orderBy("started_at").collect()
    assert all(before["finished_at"] <= after["started_at"] for before, after in pairwise(runs))
    active = lake.read(ITEMS).where("is_active")
    assert max(row["snapshot_date"] for row in active.collect()) == SECOND
    (published,) = lake.read(INDEX_BUILDS).where("status = 'published'").collect()
    assert (published["logical_date"], published["items"]) == (SECOND, active.count())


def events(collector, job: str, state: str) -> list[dict]:
    """What the collector was told so far of a job's runs that are in this state."""
    told = list(collector.events)
    return [event for event in told if (event["job"]["name"], event["eventType"]) == (job, state)]


def parents(told: list[dict]) -> set[tuple[str, str]]:
    """Job and run that started these runs."""
    facets = [event["run"]["facets"]["parent"] for event in told]
    return {(parent["job"]["name"], parent["run"]["runId"]) for parent in facets}


def names(told: list[dict]) -> set[tuple[str, str]]:
    return {(event["job"]["name"], event["run"]["runId"]) for event in told}


def table_names(datasets: list[dict]) -> set[str]:
    return {dataset["name"].rpartition("/")[2] for dataset in datasets}


def test_lineage_leads_from_nights_by_their_tasks_to_the_tables_of_jobs(airflow, nights, collector):
    def ended_nights() -> list[dict]:
        ended = events(collector, "catalog_nightly", "COMPLETE")
        return ended if len(ended) == len(nights) else []

    of_nights = names(airflow.wait_for(ended_nights, "the nights' events"))
    for task in ("catalog.ingest", "embedding.items", "index.publish"):
        of_task = events(collector, f"catalog_nightly.{task}", "COMPLETE")
        of_job = events(collector, f"make.{task}", "COMPLETE")
        assert len(of_job) == len(nights)
        assert parents(of_job) == names(of_task)
        assert parents(of_task) == of_nights
    (first, _) = events(collector, "make.embedding.items", "COMPLETE")
    assert table_names(first["inputs"]) >= {"items", "item_images", "models"}
    assert "item_embeddings" in table_names(first["outputs"])


def test_lineage_tells_of_a_job_that_failed_and_of_its_task(nights, collector):
    of_job = events(collector, "make.catalog.ingest", "FAIL")
    assert parents(of_job) == names(events(collector, "catalog_nightly.catalog.ingest", "FAIL")) != set()
    assert "nothing is there" in of_job[0]["run"]["facets"]["errorMessage"]["message"]


def test_clearing_a_finished_task_changes_no_row(airflow, nights, lake):
    run_id, before = nights[1]["dag_run_id"], versions(lake)
    airflow.clear("catalog_nightly", run_id, "embedding.items")
    airflow.wait_for(lambda: airflow.tasks("catalog_nightly", run_id)["embedding.items"]["try_number"] > 1, "the task")
    assert airflow.ended_run("catalog_nightly", run_id)["state"] == "success"
    assert versions(lake) == before
    runs = lake.read(JOB_RUNS).where("job = 'embedding items'").orderBy("started_at").collect()
    assert [row["verdict"] for row in runs[-2:]] == ["succeeded", "unchanged"]


def test_a_date_that_is_caught_up_again_does_not_undo_what_is_newer(airflow, nights, lake):
    before, of_first = versions(lake), F.col("logical_date") == F.lit(FIRST)

    def caught_up() -> list[dict]:
        return [run for run in airflow.runs("catalog_nightly") if run["run_type"] == "backfill"]

    airflow.catch_up("catalog_nightly", f"{FIRST}", f"{FIRST}")
    (run,) = airflow.wait_for(caught_up, "the night")
    assert airflow.ended_run("catalog_nightly", run["dag_run_id"])["state"] == "success"
    after = versions(lake)
    changed = {name for name in after if after[name] != before[name]}
    assert changed <= {REJECTED_ROWS.name}  # those of that date: what was unknown then may be known now
    later = (lake.read(REJECTED_ROWS, seen[REJECTED_ROWS.name]).where(~of_first) for seen in (before, after))
    assert len({tuple(sorted(map(str, rows.collect()))) for rows in later}) == 1


def test_a_job_whose_airflow_worker_died_is_ended_by_the_next_try(airflow, lake, folder):
    airflow.unpause("table_maintenance")
    (run,) = airflow.wait_for(lambda: airflow.runs("table_maintenance"), "the clock's own run")
    run_id = run["dag_run_id"]

    def state() -> str:
        return airflow.states("table_maintenance", run_id)["operations.maintain"]

    airflow.wait_for(lambda: list((folder / "lake" / "leases").glob("try-operations-maintain-*.json")), "the job")
    job = airflow.wait_for(lambda: submitted_job("operations/maintain.py"), "its process")
    family = [job, *job.children(recursive=True)]
    task = job.parent()
    of_airflow = [task.parent(), task]
    for process in of_airflow:
        process.kill()
    psutil.wait_procs(of_airflow, timeout=10)  # whom it would take along, were they suspended before
    for process in family:
        process.suspend()  # else the job might end before anybody misses it
    airflow.wait_for(lambda: state() == "failed", "Airflow to miss the task")
    assert all(process.is_running() for process in family)
    airflow.ended_run("table_maintenance", run_id)
    airflow.clear("table_maintenance", run_id, "operations.maintain")
    airflow.wait_for(lambda: state() == "success", "the next try")
    assert not any(process.is_running() for process in family)
    (record,) = lake.read(JOB_RUNS).where("job = 'operations maintain'").collect()
    assert "is gone; this run goes on in its place" in record["notes"][0]


def test_a_night_without_a_snapshot_was_told_with_its_jobs_last_words(nights, chat):
    (text,) = (text for text, _ in chat.posts if "catalog.ingest failed" in text)
    assert "scheduled__" in text
    assert "catalog ingest" in text
    assert "FAILED" in text


def test_a_late_night_was_told(nights, chat):
    late = [text for text, _ in chat.posts if "is late" in text]
    assert any(night["dag_run_id"] in text for night in nights for text in late)


def test_a_promotion_starts_a_backfill_that_publishes(airflow, nights, lake, spark, folder):
    promoted = put_candidate(lake, spark, folder / "candidate")
    assert airflow.runs("model_backfill") == []
    airflow.unpause("model_backfill")
    run_id = airflow.trigger("make_training", f"{SECOND}")
    for task in airflow.tasks("make_training", run_id):
        if task != "training.promote":  # only what comes of it is looked at
            airflow.mark_success("make_training", run_id, task)
    airflow.unpause("make_training")
    assert airflow.ended_run("make_training", run_id)["state"] == "success"
    (run,) = airflow.wait_for(lambda: airflow.runs("model_backfill"), "the backfill")
    ended = airflow.ended_run("model_backfill", run["dag_run_id"])
    states = airflow.states("model_backfill", run["dag_run_id"])
    assert (ended["run_type"], ended["state"], set(states.values())) == ("asset_triggered", "success", {"success"})
    (published,) = lake.read(INDEX_BUILDS).where("status = 'published'").collect()
    assert published["model_version"] == promoted
