"""A person at Airflow's web page, by its API."""

import json
import time
import urllib.request
from collections.abc import Callable
from typing import TypeVar

from scripts.airflow_server import HOST, USER

Found = TypeVar("Found")

_DEADLINE_S = 1200
_ENDED = ("success", "failed")


class AirflowClient:
    """Asks the API of a running server.

    Args:
        port: Of the server, on this machine.
        password: Of its user.
    """

    def __init__(self, port: int, password: str) -> None:
        self._url, self._token = f"http://{HOST}:{port}", None
        self._token = self._ask("POST", "/auth/token", {"username": USER, "password": password})["access_token"]

    def _ask(self, method: str, path: str, body: dict | None = None) -> dict:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from error

    def dags(self) -> dict[str, bool]:
        """Each DAG, and whether it is paused."""
        return {dag["dag_id"]: dag["is_paused"] for dag in self._ask("GET", "/api/v2/dags")["dags"]}

    def settings(self, kind: str) -> list[dict]:
        """What the server has of `pools`, `connections` or `variables`."""
        return self._ask("GET", f"/api/v2/{kind}")[kind]

    def unpause(self, dag_id: str) -> None:
        """Let the DAG's runs begin."""
        self._ask("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, logical_date: str, conf: dict | None = None) -> str:
        """Trigger a run for a date; returns its id."""
        body = {"logical_date": f"{logical_date}T00:00:00Z", "conf": conf or {}}
        return self._ask("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)["dag_run_id"]

    def catch_up(self, dag_id: str, first: str, last: str) -> None:
        """Have every run of these dates made, again where there was one."""
        body = {
            "dag_id": dag_id,
            "from_date": f"{first}T00:00:00Z",
            "to_date": f"{last}T23:59:59Z",
            "max_active_runs": 1,
            "reprocess_behavior": "completed",
        }
        self._ask("POST", "/api/v2/backfills", body)

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Have one task of a run done again."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task_id], "only_failed": False}
        self._ask("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", body)

    def clear_failed(self, dag_id: str, run_id: str) -> None:
        """Have whatever failed in a run, or could not begin for it, done again."""
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": True}
        self._ask("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", body)

    def set_master(self, host: str) -> None:
        """Have jobs submitted to another master from now on: local[*], or spark://..."""
        body = {"connection_id": "spark_default", "conn_type": "spark", "host": host}
        self._ask("PATCH", "/api/v2/connections/spark_default", body)

    def mark_success(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Take a task for done."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self._ask("PATCH", path, {"new_state": "success"})

    def runs(self, dag_id: str) -> list[dict]:
        """The DAG's runs, the one that was asked for first first."""
        return self._ask("GET", f"/api/v2/dags/{dag_id}/dagRuns?order_by=run_after&limit=100")["dag_runs"]

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict]:
        """The run's tasks by name."""
        found = self._ask("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """State of each of the run's tasks."""
        return {name: task["state"] for name, task in self.tasks(dag_id, run_id).items()}

    def ended_run(self, dag_id: str, run_id: str) -> dict:
        """The run, once it has ended."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
        return self.wait_for(lambda: run if (run := self._ask("GET", path))["state"] in _ENDED else None, run_id)

    def wait_for(self, look: Callable[[], Found | None], what: str) -> Found:
        """What `look` finds once it finds something."""
        deadline = time.monotonic() + _DEADLINE_S
        while not (found := look()):
            assert time.monotonic() < deadline, f"waited {_DEADLINE_S} s for {what}"
            time.sleep(0.5)
        return found
