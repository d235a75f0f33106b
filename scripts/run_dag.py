"""Run one of the DAGs here and now, with Airflow's own `dags test`, and show what its jobs say.

Airflow keeps a private SQLite database in .airflow, and its chatter goes to a log file.  The jobs' own lines come
through a pipe, because two programs stand between a job and the terminal.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from scripts.environment import AIRFLOW_VENV, ROOT, log_dir, spark_environment

AIRFLOW_HOME = ROOT / ".airflow"
AIRFLOW = [str(AIRFLOW_VENV / "bin" / "python"), "-m", "airflow"]
NEEDED_INPUTS = ("MAKE_CATALOG", "MAKE_QUERY_LOG")
_ERROR_LINE = re.compile(r"(?:^|\] )((?:[\w.]+\.)?\w*(?:Error|Exception): .+?)(?:  +\[airflow|$)", re.MULTILINE)


class DagError(Exception):
    """A DAG could not be run, or a task of it failed; the message says which, why, and where its log lies."""


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
        DagError: Airflow could not be started, or a task failed.
    """
    log = log_dir() / f"airflow-{dag_id}-{logical_date}.log"
    environment = {**_airflow_environment(), **(inputs or {})}
    _migrate_once(environment)
    start = time.monotonic()
    with log.open("wb") as log_file, _console(environment) as console:
        command = [*AIRFLOW, "dags", "test", dag_id, logical_date.isoformat(), "--conf", json.dumps(dict(params))]
        with process_group(command, environment, log_file) as airflow:
            _copy_until_end(console, airflow)
    outcome = Outcome(_tasks_of_last_run(dag_id, logical_date), time.monotonic() - start)
    if airflow.returncode != 0:
        raise DagError(_explain(dag_id, logical_date, outcome, log))
    return outcome


def _airflow_environment() -> dict[str, str]:
    """What the jobs need, and an Airflow that knows this checkout only."""
    defaults = {
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[*]"}),
        "MAKE_TASK_RETRIES": "0",  # a person is watching, and would wait minutes for the next try
    }
    environment = spark_environment()
    return {
        **defaults,
        **environment,
        "PATH": f"{environment['PATH']}{os.pathsep}{AIRFLOW_VENV / 'bin'}",
        "AIRFLOW_HOME": str(AIRFLOW_HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(log_dir() / "airflow"),
    }


def _migrate_once(environment: Mapping[str, str]) -> None:
    """Create Airflow's database, or bring it to the installed version."""
    digest = hashlib.sha256((ROOT / "requirements" / "airflow.txt").read_bytes()).hexdigest()
    stamp = AIRFLOW_HOME / "migrated"
    if stamp.is_file() and stamp.read_text() == digest:
        return
    AIRFLOW_HOME.mkdir(exist_ok=True)
    log = log_dir() / "airflow-migrate.log"
    with log.open("wb") as log_file:
        migrated = subprocess.run([*AIRFLOW, "db", "migrate"], env=environment, stdout=log_file, stderr=log_file)
    if migrated.returncode != 0:
        raise DagError(f"Airflow's database in {AIRFLOW_HOME} could not be made; {log} says why.")
    stamp.write_text(digest)


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


@contextlib.contextmanager
def process_group(command: list[str], environment: Mapping[str, str], log_file) -> Iterator[subprocess.Popen]:
    """A process that ends with all its children (JVMs, Python workers) when this block is left early."""
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=log_file, stderr=log_file, start_new_session=True
    )
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield process
    finally:
        signal.signal(signal.SIGTERM, previous)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            # Airflow itself may take no notice; nothing of it needs to be saved.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=3)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


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
        raise DagError(f"expected a parameter as name=value, got {text!r}.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def main() -> None:
    """Run a DAG over the data that the environment names."""
    arguments = _parse_arguments()
    missing = [name for name in NEEDED_INPUTS if not os.environ.get(name)]
    if missing:
        raise DagError(f"{', '.join(missing)} not set: name your data as README.md shows, or try `make demo` first.")
    outcome = run_dag(arguments.dag, arguments.date, params=dict(map(_parse_param, arguments.params)))
    print(f"{arguments.dag} {arguments.date}: {outcome.summary()}")


def end_well(main: Callable[[], None]) -> None:
    """Call `main` for a person at a terminal: a DAG's failure is one line, not a traceback."""
    try:
        main()
    except DagError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    end_well(main)
