"""Airflow on this machine, on 127.0.0.1 alone: scheduler, DAG processor, triggerer, web UI and API, until Ctrl-C."""

import argparse
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from scripts import demo
from scripts.airflow import AIRFLOW, AirflowError, airflow_environment, end_well, prepare
from scripts.environment import ROOT, log_dir
from scripts.run_dag import NEEDED_INPUTS

HOME = ROOT / ".airflow" / "server"
HOST = "127.0.0.1"
USER = "admin"
# Without log servers of their own, which would listen on every address: the UI reads the files.
COMPONENTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
# Tasks at once, each a Spark driver of its own.
_PARALLELISM = 4
_START_S, _STOP_S = 180, 10


def server_environment(home: Path, port: int) -> dict[str, str]:
    """What the components run with.

    Args:
        home: Folder of the database, keys and password.
        port: Of UI and API.
    """
    url = f"http://{HOST}:{port}"
    return {
        "AIRFLOW__CORE__PARALLELISM": str(_PARALLELISM),
        **airflow_environment(home),
        # Components wait for each other's writes; SQLite's own five seconds are too few on a busy machine.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(_password_file(home)),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
    }


def _password_file(home: Path) -> Path:
    return home / "passwords.json"


def password(home: Path) -> str:
    """The password of `USER`, which Airflow makes up when it first starts."""
    return json.loads(_password_file(home).read_text())[USER]


@contextlib.contextmanager
def running_airflow(home: Path, port: int, inputs: Mapping[str, str]) -> Iterator[None]:
    """Airflow runs while the block does, with the settings of conf/airflow/; ends with all that it has started.

    Args:
        home: Folder of the database; made when absent.
        port: Of UI and API.
        inputs: `MAKE_*` settings of the jobs, beyond this process's environment.

    Raises:
        AirflowError: The port is taken, or a component does not come up.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise AirflowError(f'port {port} is taken: make airflow PARAMS="--port ..." names another.') from error
    environment = {**server_environment(home, port), **inputs}
    prepare(home, environment)
    components: dict[str, psutil.Popen] = {}
    try:
        for name, command in COMPONENTS.items():
            with _log(name).open("wb") as log:
                components[name] = psutil.Popen(
                    [*AIRFLOW, *command], env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
                )
        _wait_until_healthy(port, components)
        yield
    finally:
        _stop(list(components.values()))


def _log(component: str) -> Path:
    return log_dir() / f"airflow-{component}.log"


def _wait_until_healthy(port: int, components: Mapping[str, psutil.Popen]) -> None:
    deadline = time.monotonic() + _START_S
    while not _is_healthy(port):
        for name, process in components.items():
            if process.poll() is not None:
                raise AirflowError(f"Airflow's {name} ended with status {process.returncode}: {_log(name)} says why.")
        if time.monotonic() > deadline:
            raise AirflowError(f"Airflow did not come up in {_START_S} s: {log_dir()}/airflow-*.log say why.")
        time.sleep(0.5)


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/api/v2/monitor/health", timeout=5) as answer:
            health = json.load(answer)
    except (urllib.error.URLError, TimeoutError):
        return False
    return all(health[name]["status"] == "healthy" for name in ("scheduler", "dag_processor", "triggerer"))


def _stop(components: list[psutil.Popen]) -> None:
    """End them and their jobs, whatever session those run in: they lose no more than in a crash, which they survive."""
    family = [child for process in components for child in (process, *process.children(recursive=True))]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, remaining = psutil.wait_procs(family, timeout=_STOP_S)
    for process in remaining:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(remaining, timeout=_STOP_S)


def _inputs() -> tuple[dict[str, str], str]:
    """Settings of the jobs beyond the environment, and whose data that makes, in words."""
    if all(os.environ.get(name) for name in NEEDED_INPUTS):
        return {}, "yours, as the environment names it"
    names = " and ".join(NEEDED_INPUTS)
    if demo.DATA.is_dir():
        retries = {"MAKE_TASK_RETRIES": "0"}  # whoever tries it would wait minutes for the next try
        return {**retries, **demo.inputs()}, f"the demo's, in {demo.DEMO}; {names} name yours (README.md)"
    return {}, f"none: set {names} (README.md), or run `make demo` first"


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m scripts.airflow_server", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="Port of the web UI.")
    port = parser.parse_args().port
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    inputs, data = _inputs()
    with running_airflow(HOME, port, inputs):
        print(f"Airflow   http://{HOST}:{port}   user {USER}, password {password(HOME)}")
        print(f"data      {data}")
        print(f"logs      {log_dir()}/airflow*   Ctrl-C ends it, with the jobs that run", flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    end_well(main)
