"""Whole runs of the DAGs by Airflow itself, with a spark-submit that only writes down how it was called."""

import json
import re
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import catalog_nightly
import index_rollback
import make_training
import model_backfill
import pytest
import table_maintenance
from spark import SparkJobOperator, spark_job

from tests.dags.runs import states_of


def test_a_night_gives_every_job_its_logical_date_and_all_the_same_run_id(submissions):
    state, tasks = states_of(catalog_nightly)
    assert state == "success"
    assert tasks.pop("watch") == "skipped"
    assert set(tasks.values()) == {"success"}
    for job in ("catalog/ingest", "query_log/ingest", "index/publish", "operations/report"):
        assert submissions.arguments_of(job) == ["--date=2026-11-20"]
    (run_id,) = submissions.run_ids()
    assert run_id.startswith("catalog_nightly.manual__")
    assert ":" not in run_id


def test_jobs_have_the_settings_of_the_variable_before_those_of_the_workers(submissions, monkeypatch):
    monkeypatch.setenv("MAKE_KEEP_BUILDS", "9")
    assert states_of(table_maintenance)[0] == "success"
    monkeypatch.setenv("AIRFLOW_VAR_MAKE_SETTINGS", '{"MAKE_KEEP_BUILDS": 3, "MAKE_MIN_RECALL_AT_10": 0.9}')
    assert submissions.kept_builds() == {"9"}
    assert states_of(table_maintenance)[0] == "success"
    assert submissions.kept_builds() == {"9", "3"}


def test_by_default_jobs_are_told_nothing_of_lineage(submissions):
    assert states_of(table_maintenance)[0] == "success"
    assert submissions.lineage() == set()


def test_jobs_send_lineage_below_their_task_by_what_airflow_is_configured_with(submissions, monkeypatch):
    transport = '{"type": "http", "url": "http://127.0.0.1:9"}'
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", transport)
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__NAMESPACE", "shop")
    assert states_of(table_maintenance)[0] == "success"
    of_one_task = (line for line in submissions.lineage() if "PARENT" not in line or ".operations.maintain/" in line)
    settings = dict(line.split("=", 1) for line in of_one_task)
    assert settings["OPENLINEAGE__TRANSPORT"] == transport
    assert settings["OPENLINEAGE_NAMESPACE"] == "shop"
    parent = settings["OPENLINEAGE_PARENT_ID"]
    assert re.fullmatch(r"shop/table_maintenance\.operations\.maintain/[0-9a-f-]{36}", parent)


@pytest.mark.parametrize("settings", ['{"LD_PRELOAD": "x.so"}', '["MAKE_LAKE"]', '{"MAKE_LAKE; rm": ""}'])
def test_a_variable_that_would_set_anything_else_fails_the_task_before_the_job(submissions, monkeypatch, settings):
    monkeypatch.setenv("AIRFLOW_VAR_MAKE_SETTINGS", settings)
    state, tasks = states_of(table_maintenance)
    assert (state, tasks["operations.maintain"]) == ("failed", "failed")
    assert not submissions.has_any


def test_a_job_that_ends_with_status_99_is_skipped_with_all_after_it_but_the_report(submissions):
    submissions.skip("embedding/items")
    state, tasks = states_of(catalog_nightly)
    assert state == "success"
    assert tasks["query_log.ingest"] == "success"
    skipped = {"embedding.items", "embedding.queries", "index.build", "index.check", "index.publish", "watch"}
    assert {task for task, state in tasks.items() if state == "skipped"} == skipped
    assert tasks["operations.report"] == "success"


@pytest.fixture
def resource_manager(monkeypatch):
    """A YARN that has run whatever was submitted to it: `resource_manager("FAILED", "why")` says with what end."""
    end = {"state": "FINISHED"}

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"app": end}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    extra = {
        "deploy-mode": "cluster",
        "yarn_resourcemanager_webapp_address": f"http://127.0.0.1:{server.server_port}",
    }
    yarn = {"conn_type": "spark", "host": "yarn", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps(yarn))

    def ends(final_status: str, diagnostics: str = "") -> None:
        end.update(finalStatus=final_status, diagnostics=diagnostics)

    yield ends
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_driver_in_yarn_is_waited_for_and_its_status_counts(submissions, resource_manager):
    resource_manager("SUCCEEDED")
    state, tasks = states_of(table_maintenance)
    assert (state, set(tasks.values())) == ("success", {"success"})
    resource_manager("FAILED", "User application exited with status 99")
    state, tasks = states_of(model_backfill)
    assert (state, set(tasks.values())) == ("success", {"skipped"})
    resource_manager("FAILED", "User application exited with status 1")
    state, tasks = states_of(model_backfill)
    assert (state, tasks["embedding.backfill"]) == ("failed", "failed")


@pytest.fixture
def kubernetes(monkeypatch, tmp_path):
    """A cluster with a pod for every driver: `kubernetes("Running", "Failed", status=99)` says what it answers, one
    phase each time it is asked and the last one for ever, and returns the paths that were asked for."""
    end, asked = {}, []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            terminated = {"exitCode": end["status"], "reason": "Completed" if end["status"] == 0 else "Error"}
            driver = {"name": "driver", "state": {"terminated": terminated}, "image": "", "imageID": ""}
            container = {**driver, "ready": False, "restartCount": 0}
            phase = end["phases"].pop(0) if len(end["phases"]) > 1 else end["phases"][0]
            pod = {"kind": "Pod", "status": {"phase": phase, "containerStatuses": [container]}}
            self.answer(pod)

        def do_DELETE(self) -> None:
            self.answer({"kind": "Status", "status": "Success"})

        def answer(self, body: dict) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    named = {"name": "stand-in"}
    cluster = {**named, "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    context = {**named, "context": {"cluster": "stand-in", "user": "stand-in"}}
    kubeconfig = {
        "clusters": [cluster],
        "contexts": [context],
        "users": [{**named, "user": {"token": "t"}}],
        "current-context": "stand-in",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER", "False")
    monkeypatch.setenv("AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE", str(tmp_path / "kubeconfig"))
    connection = {"conn_type": "spark", "host": "k8s://https://kubernetes.example.org:6443"}
    extra = {"deploy-mode": "cluster", "namespace": "make"}
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps({**connection, "extra": extra}))

    def answers(*phases: str, status: int) -> list[str]:
        end.update(phases=list(phases), status=status)
        return asked

    yield answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_driver_in_kubernetes_is_waited_for_and_its_status_counts(submissions, kubernetes):
    asked = kubernetes("Succeeded", status=0)
    state, tasks = states_of(table_maintenance)
    assert (state, set(tasks.values())) == ("success", {"success"})
    assert set(asked) == {"/api/v1/namespaces/make/pods/make-night-0a1b2c-driver"}
    kubernetes("Failed", status=99)
    state, tasks = states_of(model_backfill)
    assert (state, set(tasks.values())) == ("success", {"skipped"})
    kubernetes("Failed", status=1)
    state, tasks = states_of(model_backfill)
    assert (state, tasks["embedding.backfill"]) == ("failed", "failed")


def test_a_try_that_follows_a_lost_one_waits_for_the_driver_that_is_at_work(submissions, kubernetes):
    asked = kubernetes("Running", "Succeeded", status=0)

    class OfTheLostTry(dict):
        set = dict.__setitem__

    known = OfTheLostTry({SparkJobOperator.external_id_key: "make:make-night-0a1b2c-driver"})
    spark_job("index", "build", doc="").execute({"task_state_store": known})
    assert not submissions.has_any
    assert asked == 2 * ["/api/v1/namespaces/make/pods/make-night-0a1b2c-driver"]


def test_a_night_with_a_failed_job_is_a_failed_run_that_still_has_its_report(submissions):
    submissions.fail("index/check")
    state, tasks = states_of(catalog_nightly)
    assert state == "failed"
    assert tasks["index.build"] == "success"
    assert tasks["index.check"] == "failed"
    assert tasks["index.publish"] == "upstream_failed"
    assert tasks["operations.report"] == "success"


def test_a_failed_report_fails_the_night(submissions):
    submissions.fail("operations/report")
    assert states_of(catalog_nightly)[0] == "failed"


def test_training_ingests_its_window_and_passes_on_only_the_parameters_that_were_given(submissions):
    loss = {"objectives": {"image_text_weight": 0.5}}
    given = {"epochs": 3, "batch_size": 128, "max_minutes": 1.5, "train_settings": loss}
    state, _ = states_of(make_training, run_conf={"window_days": 7, **given})
    assert state == "success"
    assert submissions.arguments_of("catalog/ingest") == ["--date=2026-11-20"]
    assert submissions.arguments_of("query_log/ingest") == ["--date=2026-11-20", "--start=2026-11-14"]
    assert submissions.arguments_of("query_log/pairs") == ["--date=2026-11-20", "--window-days=7"]
    *others, train_settings = submissions.arguments_of("training/train")
    assert others == ["--date=2026-11-20", "--epochs=3", "--batch-size=128", "--max-minutes=1.5"]
    assert json.loads(train_settings.removeprefix("--train-settings=")) == loss


def test_a_refused_model_fails_no_run_and_has_its_page(submissions):
    submissions.skip("training/promote")
    state, tasks = states_of(make_training)
    assert state == "success"
    assert tasks["training.promote"] == "skipped"
    assert tasks["training.report"] == "success"


def test_a_backfill_is_run_again_until_nothing_is_left_and_then_its_build_is_published(submissions, monkeypatch):
    submissions.repeat("embedding/backfill")
    state, tasks = states_of(model_backfill, logical_date=None, run_conf={"date": "2026-11-18", "slice_minutes": 30})
    assert (state, set(tasks.values())) == ("success", {"success"})
    assert submissions.times("embedding/backfill") == 3
    assert submissions.arguments_of("embedding/backfill") == ["--date=2026-11-18", "--max-minutes=30"]
    for job in ("embedding/queries", "index/build", "index/check", "index/publish"):
        assert submissions.arguments_of(job) == ["--date=2026-11-18", "--model-version=promoted"]


def test_without_a_new_model_a_backfill_publishes_nothing(submissions):
    submissions.skip("embedding/backfill")
    state, tasks = states_of(model_backfill)
    assert (state, set(tasks.values())) == ("success", {"skipped"})


def test_maintenance_is_told_its_day(submissions):
    state, tasks = states_of(table_maintenance)
    assert (state, set(tasks.values())) == ("success", {"success"})
    for job in ("operations/maintain", "operations/optimize", "operations/forget"):
        assert submissions.arguments_of(job) == ["--date=2026-11-20"]


def test_a_rollback_says_who_asked_for_it_and_why(submissions):
    conf = {"confirm": "roll back", "reason": "shoes; rm -rf under $(dresses)", "until": "2026-11-25"}
    state, tasks = states_of(index_rollback, run_conf=conf)
    assert (state, tasks) == ("success", {"index.rollback": "success"})
    by, *others = submissions.arguments_of("index/rollback")
    assert by.startswith("--by=")
    assert len(by) > len("--by=")
    assert others == ["--reason=shoes; rm -rf under $(dresses)", "--until=2026-11-25"]


@pytest.mark.parametrize(
    "params",
    [
        {"reason": "because"},
        {"confirm": "yes", "reason": "because"},
        {"confirm": "roll back"},
        {"confirm": "roll back", "reason": ""},
        {"confirm": "roll back", "reason": "because", "build_id": "../elsewhere"},
    ],
)
def test_a_rollback_without_a_confirmation_or_a_reason_is_refused(submissions, params):
    with pytest.raises(Exception, match=r"[Pp]aram"):
        states_of(index_rollback, run_conf=params)


def test_a_run_without_a_logical_date_takes_the_date_parameter(submissions):
    state, _ = states_of(make_training, logical_date=None, run_conf={"date": "2026-11-18"})
    assert state == "success"
    assert submissions.arguments_of("training/promote") == ["--date=2026-11-18"]


def test_a_run_with_neither_date_takes_the_day_on_which_it_was_asked_for(submissions):
    asked = datetime(2026, 11, 19, 13, tzinfo=UTC)
    states_of(make_training, logical_date=None, run_after=asked)
    assert submissions.arguments_of("training/promote") == ["--date=2026-11-19"]


@pytest.mark.parametrize(
    "params",
    [
        {"window_days": 0},
        {"epochs": 1.5},
        {"batch_size": 1},
        {"date": "yesterday"},
        {"max_minutes": 0},
        {"train_settings": "x"},
    ],
)
def test_a_parameter_outside_its_schema_is_refused(submissions, params):
    with pytest.raises(Exception, match="Invalid input for param"):
        states_of(make_training, run_conf=params)
