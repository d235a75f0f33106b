import importlib
import json
import os
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import catalog_nightly
import index_rollback
import make_training
import model_backfill
import pytest
import table_maintenance
from airflow.sdk import DAG, CronDataIntervalTimetable, CronTriggerTimetable, DeadlineReference, TriggerRule
from spark import ITEM_EMBEDDINGS, JOBS, PAUSE, PROMOTED_MODEL, PUBLISHED_INDEX, SparkJobOperator

ROOT = Path(__file__).resolve().parents[2]
ALL_DAGS = [catalog_nightly.dag, make_training.dag, model_backfill.dag, table_maintenance.dag, index_rollback.dag]
DAGS = pytest.mark.parametrize("dag", ALL_DAGS, ids=lambda dag: dag.dag_id)

NIGHT = [
    "catalog.ingest",
    "query_log.ingest",
    "embedding.items",
    "embedding.queries",
    "index.build",
    "index.check",
    "index.publish",
    "operations.report",
]
BACKFILL = ["embedding.backfill", "embedding.queries", "index.build", "index.check", "index.publish"]
MAINTENANCE = ["operations.maintain", "operations.optimize", "operations.forget"]
ROLLBACK = ["index.rollback"]
TRAINING = [
    "catalog.ingest",
    "query_log.ingest",
    "query_log.pairs",
    "training.build_set",
    "training.train",
    "training.evaluate",
    "training.promote",
    "training.report",
]


def jobs_of(dag: DAG) -> list[SparkJobOperator]:
    return [task for task in dag.topological_sort() if isinstance(task, SparkJobOperator)]


def test_importing_the_dags_imports_neither_spark_nor_torch_nor_the_jobs():
    program = (
        "import sys; sys.path.insert(0, 'dags'); "
        "import catalog_nightly, index_rollback, make_training, model_backfill, table_maintenance; "
        "print([name for name in ('pyspark', 'torch', 'delta', 'jobs', 'models', 'schemas') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_parsing_the_dags_reads_their_files_and_touches_nothing_else():
    program = """
import sys, time
import airflow.providers.apache.spark.operators.spark_submit, airflow.sdk, httpx
airflow.sdk.DAG("warm", schedule=airflow.sdk.CronDataIntervalTimetable("@daily", timezone="UTC"))
sys.path.insert(0, "dags")
seen = []
def look(event, arguments):
    writes = event == "open" and arguments[1] not in (None, "r", "rb") and "__pycache__" not in str(arguments[0])
    if writes or event in ("socket.connect", "socket.getaddrinfo", "sqlite3.connect", "subprocess.Popen", "os.system"):
        seen.append((event, arguments))
sys.addaudithook(look)
began = time.process_time()
import catalog_nightly, index_rollback, make_training, model_backfill, table_maintenance
print(seen, time.process_time() - began)
"""
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    seen, _, seconds = answer.stdout.splitlines()[-1].rpartition(" ")
    assert seen == "[]"
    assert float(seconds) < 2


def test_tasks_that_must_not_meet_share_a_pool_that_the_settings_make():
    pools = json.loads((ROOT / "conf" / "airflow" / "pools.json").read_text())
    used = {}
    for dag in ALL_DAGS:
        for task in dag.tasks:
            used.setdefault(task.pool, set()).add(f"{dag.dag_id}.{task.task_id}")
    used.pop("default_pool")
    assert used.keys() == pools.keys()
    assert used["make_catalog"] == {"catalog_nightly.catalog.ingest", "make_training.catalog.ingest"}
    assert used["make_query_log"] == {
        "catalog_nightly.query_log.ingest",
        "make_training.query_log.ingest",
        "make_training.query_log.pairs",
    }
    assert used["make_published"] == {
        "catalog_nightly.index.publish",
        "model_backfill.index.publish",
        "index_rollback.index.rollback",
    }
    assert used["make_gpu"] == {
        "catalog_nightly.embedding.items",
        "model_backfill.embedding.backfill",
        "make_training.training.train",
    }
    assert {pools[name]["slots"] for name in pools.keys() - {"make_gpu"}} == {1}


def test_a_night_is_late_after_the_hours_that_were_named_and_else_never(monkeypatch):
    assert not catalog_nightly.dag.deadline
    monkeypatch.setenv("MAKE_LATE_AFTER_HOURS", "4.5")
    (deadline,) = importlib.reload(catalog_nightly).dag.deadline
    assert (deadline.interval, deadline.callback.path) == (timedelta(hours=4.5), "alerts.tell_late")
    assert deadline.reference == DeadlineReference.DAGRUN_QUEUED_AT
    monkeypatch.undo()
    importlib.reload(catalog_nightly)


@pytest.mark.parametrize(
    ("dag", "expected"), zip(ALL_DAGS, [NIGHT, TRAINING, BACKFILL, MAINTENANCE, ROLLBACK], strict=True)
)
def test_the_jobs_run_one_after_the_other_in_the_order_of_the_design(dag: DAG, expected: list[str]):
    jobs = jobs_of(dag)
    assert [job.task_id for job in jobs] == expected
    for before, after in pairwise(jobs):
        assert after.upstream_task_ids == {before.task_id}


@DAGS
def test_every_job_lies_where_its_task_says(dag: DAG):
    for job in jobs_of(dag):
        domain, name = job.task_id.split(".")
        assert job.application == str(JOBS / domain / f"{name}.py")
        assert Path(job.application).is_file()


@DAGS
def test_every_task_says_in_one_line_what_it_does(dag: DAG):
    for task in dag.tasks:
        assert task.doc_md, task.task_id
        assert len(task.doc_md.splitlines()) == 1, task.task_id


def test_the_night_runs_daily_in_utc_one_at_a_time_and_does_not_catch_up():
    dag = catalog_nightly.dag
    assert isinstance(dag.timetable, CronDataIntervalTimetable)
    assert str(dag.timetable.timezone) == "UTC"
    assert dag.timetable.expression.split()[2:] == ["*", "*", "*"]
    assert (dag.catchup, dag.max_active_runs) == (False, 1)


def test_a_promoted_model_and_nothing_else_starts_its_backfill():
    assert make_training.dag.get_task("training.promote").outlets == [PROMOTED_MODEL]
    assert list(model_backfill.dag.timetable.asset_condition.objects) == [PROMOTED_MODEL]
    others = [task for dag in ALL_DAGS for task in dag.tasks if task.task_id != "training.promote"]
    assert not any(PROMOTED_MODEL in task.outlets for task in others)
    assert model_backfill.dag.max_active_runs == 1


def test_whoever_waits_for_vectors_or_builds_hears_of_all_of_them():
    writers = {
        asset: [task.task_id for dag in ALL_DAGS for task in dag.tasks if asset in task.outlets]
        for asset in (ITEM_EMBEDDINGS, PUBLISHED_INDEX)
    }
    assert writers == {
        ITEM_EMBEDDINGS: ["embedding.items", "embedding.backfill"],
        PUBLISHED_INDEX: ["index.publish", "index.publish", "index.rollback"],
    }


@DAGS
def test_every_task_has_an_owner_and_an_end(dag: DAG):
    for task in dag.tasks:
        assert task.owner == "make"
        assert task.execution_timeout <= timedelta(hours=12)


def test_maintenance_runs_once_a_week_for_the_day_itself():
    dag = table_maintenance.dag
    assert isinstance(dag.timetable, CronTriggerTimetable)
    assert dag.timetable.expression.split()[2:] == ["*", "*", "0"]
    assert (dag.catchup, dag.max_active_runs) == (False, 1)


def test_a_pending_takedown_is_asked_after_every_few_hours_and_ends_before_the_next_maintenance():
    dag = table_maintenance.dag
    assert dag.get_task("operations.forget").pause == timedelta(hours=6)
    assert dag.dagrun_timeout < timedelta(weeks=1)
    others = [job for module in ALL_DAGS for job in jobs_of(module) if job.task_id != "operations.forget"]
    assert {job.pause for job in others} == {PAUSE}


def test_a_rollback_is_asked_for_by_a_person_and_never_tried_twice():
    dag = index_rollback.dag
    assert (dag.schedule, dag.max_active_runs) == (None, 1)
    program = "import sys; sys.path.insert(0, 'dags'); import index_rollback as r; print(r.dag.tasks[0].retries)"
    environment = {"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": os.environ["AIRFLOW_HOME"], "MAKE_TASK_RETRIES": "5"}
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    assert answer.stdout.splitlines()[-1] == "0"


def test_the_report_is_written_whatever_became_of_the_night():
    assert catalog_nightly.dag.get_task("operations.report").trigger_rule == TriggerRule.ALL_DONE


def test_deployed_dags_retry_their_tasks():
    program = "import sys; sys.path.insert(0, 'dags'); import make_training as m; print(m.dag.tasks[0].retries)"
    environment = {"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": os.environ["AIRFLOW_HOME"]}
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    assert int(answer.stdout.splitlines()[-1]) >= 1
