"""Run one of the DAGs here and now, with Airflow's own `dags test`, and show what its jobs say.

Airflow keeps a private SQLite database in .airflow, and its chatter goes to a log file.  The jobs' own lines come
through a pipe, because two programs stand between a job and the terminal.
"""

import argparse
import contextlib
import json
import os
import re
import select
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from scripts.airflow import AIRFLOW, AirflowError, airflow_environment, end_well, prepare, process_group
from scripts.environment import ROOT, log_dir

AIRFLOW_HOME = ROOT / ".airflow" / "runs"
NEEDED_INPUTS = ("MAKE_CATALOG", "MAKE_QUERY_LOG")
_ERROR_LINE = re.compile(r"(?:^|\] )((?:[\w.]+\.)?\w*(?:Error|Exception): .+?)(?:  +\[airflow|$)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What became of a run's tasks: state to task names, in the order in which they ended."""

    tasks: Mapping[str, list[str]]
    seconds: float

    def summary(self) -> str:
        """One line for a person."""
        words = {"success": "succeeded", "upstream_failed": "not run"}
        states = ", ".join(f"{len(names)} {words.get(state, state)}" for state, names in self.tasks.items())
        return f"{states}; {self.seconds:.0f} s"


def run_dag(
    dag_id: str, logical_date: date, *, params: Mapping[str, object], inputs: Mapping[str, str] | None = None
) -> Outcome:
    """Run the DAG to its end, copying what its jobs say to standard output.

    Args:
        dag_id: `make_training`, `catalog_nightly` or `model_backfill`.
        logical_date: The date that the run is for.
        params: Parameters of the DAG; what is absent has the DAG's default.
        inputs: `MAKE_*` settings of the jobs, on top of this process's environment.

    Raises:
        AirflowError: Airflow could not be started, or a task failed.
    """
    log = log_dir() / f"airflow-{dag_id}-{logical_date}.log"
    environment = {
        "MAKE_TASK_RETRIES": "0",  # a person is watching, and would wait minutes for the next try
        **airflow_environment(AIRFLOW_HOME),
        "MAKE_LATE_AFTER_HOURS": "",  # `dags test` of Airflow 3.3 fails where a DAG has a deadline
        **(inputs or {}),
    }
    prepare(AIRFLOW_HOME, environment)
    start = time.monotonic()
    with log.open("wb") as log_file, _console(environment) as console:
        command = [*AIRFLOW, "dags", "test", dag_id, logical_date.isoformat(), "--conf", json.dumps(dict(params))]
        with process_group(command, environment, log_file) as airflow:
            _copy_until_end(console, airflow)
    outcome = Outcome(_tasks_of_last_run(dag_id, logical_date), time.monotonic() - start)
    if airflow.returncode != 0:
        raise AirflowError(_explain(dag_id, logical_date, outcome, log))
    return outcome


@contextlib.contextmanager
def _console(environment: dict[str, str]) -> Iterator[int]:
    """A pipe for the jobs' own lines, named to them as MAKE_CONSOLE; yields the descriptor to read from."""
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "console"
        os.mkfifo(pipe)
        environment["MAKE_CONSOLE"] = str(pipe)
        if sys.stdout.isatty():
            columns, lines = shutil.get_terminal_size()
            environment |= {"MAKE_CONSOLE_TTY": "1", "COLUMNS": str(columns), "LINES": str(lines)}
        # Open for writing too, so that the pipe does not end when a job does.
        descriptor = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _copy_until_end(console: int, process: subprocess.Popen) -> None:
    """Copy the pipe to standard output until the process has ended and the pipe is empty."""
    while True:
        ended = process.poll() is not None
        readable, _, _ = select.select([console], [], [], 0.2)
        if readable:
            sys.stdout.buffer.write(os.read(console, 65536))
            sys.stdout.buffer.flush()
        elif ended:
            return


def _tasks_of_last_run(dag_id: str, logical_date: date) -> dict[str, list[str]]:
    """State to names of the tasks of the DAG's last run for that date."""
    query = """
        SELECT task_id, state FROM task_instance
        WHERE run_id = (
            SELECT run_id FROM dag_run WHERE dag_id = ? AND date(logical_date) = ? ORDER BY id DESC LIMIT 1
        ) AND dag_id = ? AND task_id != 'watch'
        ORDER BY end_date
    """
    states: dict[str, list[str]] = {}
    with contextlib.closing(sqlite3.connect(AIRFLOW_HOME / "airflow.db")) as database:
        for task, state in database.execute(query, (dag_id, logical_date.isoformat(), dag_id)):
            states.setdefault(state or "upstream_failed", []).append(task)
    return states


def _explain(dag_id: str, logical_date: date, outcome: Outcome, log: Path) -> str:
    """Name the first task that failed, and the last error in its part of the log."""
    text = log.read_text(encoding="utf-8", errors="replace")
    failed = outcome.tasks.get("failed")
    if not failed:
        errors = _ERROR_LINE.findall(text) or ["Airflow could not run it"]
        return f"{dag_id} {logical_date}: {errors[-1]} ({log})"
    part = text.partition(f"[DAG TEST] starting task_id={failed[0]} ")[2].partition("[DAG TEST] end task")[0]
    # The operator's own "Cannot execute: spark-submit ..." follows whatever the job said.
    errors = [error for error in _ERROR_LINE.findall(part) if "Cannot execute" not in error]
    why = errors[-1] if errors else "the job says why above"
    return f"{dag_id} {logical_date}: task {failed[0]} failed: {why} ({log})"


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.run_dag", description=__doc__)
    parser.add_argument("dag", choices=["make_training", "catalog_nightly", "model_backfill"])
    parser.add_argument("--date", type=date.fromisoformat, default=datetime.now(UTC).date() - timedelta(days=1))
    parser.add_argument("params", nargs="*", metavar="name=value", help="parameters of the DAG, values as JSON")
    return parser.parse_intermixed_args()


def _parse_param(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise AirflowError(f"expected a parameter as name=value, got {text!r}.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def main() -> None:
    """Run a DAG over the data that the environment names."""
    arguments = _parse_arguments()
    missing = [name for name in NEEDED_INPUTS if not os.environ.get(name)]
    if missing:
        raise AirflowError(
            f"{', '.join(missing)} not set: name your data as README.md shows, or try `make demo` first."
        )
    outcome = run_dag(arguments.dag, arguments.date, params=dict(map(_parse_param, arguments.params)))
    print(f"{arguments.dag} {arguments.date}: {outcome.summary()}")


if __name__ == "__main__":
    end_well(main)
