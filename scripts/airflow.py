"""Airflow as a checkout runs it: a database of its own, and connections, variables and pools from conf/airflow/."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from scripts.environment import AIRFLOW_VENV, ROOT, log_dir, spark_environment

AIRFLOW = [str(AIRFLOW_VENV / "bin" / "python"), "-m", "airflow"]
_SETTINGS = ROOT / "conf" / "airflow"
# What each kind of setting is read by; all that a database has by the same name is replaced.
_IMPORTS = {
    "connections": ["connections", "import", "--overwrite"],
    "pools": ["pools", "import"],
    "variables": ["variables", "import"],
}


class AirflowError(Exception):
    """Airflow could not be started, or a task of a DAG failed; the message says which, why, and where its log lies."""


def airflow_environment(home: Path) -> dict[str, str]:
    """What the jobs need, and an Airflow that knows this checkout only.

    Args:
        home: Folder of its database; each has connections, variables and pools of its own.
    """
    environment = spark_environment()
    return {
        **environment,
        "PATH": f"{environment['PATH']}{os.pathsep}{AIRFLOW_VENV / 'bin'}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(log_dir() / "airflow"),
    }


def prepare(home: Path, environment: Mapping[str, str]) -> None:
    """Create Airflow's database, bring it to the installed version, and put the settings into it.

    Does nothing when neither version nor settings have changed since it was last called.

    Raises:
        AirflowError: Airflow cannot do it.
    """
    files = [ROOT / "requirements" / "airflow.txt", *(_SETTINGS / f"{kind}.json" for kind in _IMPORTS)]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    stamp = home / "prepared"
    if stamp.is_file() and stamp.read_text() == digest:
        return
    home.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds keys and passwords
    imports = [[*command, str(_SETTINGS / f"{kind}.json")] for kind, command in _IMPORTS.items()]
    log = log_dir() / "airflow-prepare.log"
    with log.open("wb") as log_file:
        # What may go on at once does: most of each call's seconds are its own start.
        for at_once in ([["db", "migrate"]], imports):
            calls = [
                subprocess.Popen([*AIRFLOW, *call], env=environment, stdout=log_file, stderr=log_file)
                for call in at_once
            ]
            statuses = [call.wait() for call in calls]
            if any(statuses):
                raise AirflowError(f"Airflow's database in {home} could not be prepared; {log} says why.")
    stamp.write_text(digest)


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


def end_well(main: Callable[[], None]) -> None:
    """Call `main` for a person at a terminal: what Airflow fails at is one line, not a traceback."""
    try:
        main()
    except AirflowError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
