"""The launcher: Airflow itself runs, over jobs that are a few lines of Python."""

import datetime as dt
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import run_dag
from scripts.airflow import AirflowError, process_group
from scripts.run_dag import Outcome

ROOT = Path(__file__).resolve().parents[1]
NIGHT = dt.date(2026, 11, 20)
JOBS = [
    "catalog/ingest",
    "query_log/ingest",
    "embedding/items",
    "embedding/queries",
    "index/build",
    "index/check",
    "index/publish",
    "operations/report",
]
SAY = "import os\nwith open(os.environ['MAKE_CONSOLE'], 'a') as console:\n    console.write('{job} said so\\n')\n"


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of jobs that only speak, and an Airflow of its own."""
    folder = tmp_path / "jobs"
    for job in JOBS:
        file = folder / f"{job}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(SAY.format(job=job))
    monkeypatch.setenv("MAKE_JOBS_DIR", str(folder))
    monkeypatch.setenv("MAKE_LOG_DIR", str(tmp_path / "logs"))
    monkeypatch.setattr(run_dag, "AIRFLOW_HOME", tmp_path / "airflow")
    return folder


def run_night(capfdbinary: pytest.CaptureFixture[bytes]) -> tuple[Outcome, list[str]]:
    outcome = run_dag.run_dag("catalog_nightly", NIGHT, params={})
    return outcome, capfdbinary.readouterr().out.decode().splitlines()


@pytest.mark.slow
def test_what_jobs_say_reaches_the_terminal_and_a_skip_is_counted(jobs: Path, capfdbinary):
    (jobs / "embedding" / "items.py").write_text(SAY.format(job="embedding/items") + "raise SystemExit(99)\n")
    outcome, said = run_night(capfdbinary)
    assert said == [f"{job} said so" for job in ("catalog/ingest", "query_log/ingest", "embedding/items", JOBS[-1])]
    assert outcome.summary().startswith("3 succeeded, 5 skipped; ")


@pytest.mark.slow
def test_a_failed_task_is_one_line_with_its_last_error_and_its_log(jobs: Path, tmp_path: Path, capfdbinary):
    (jobs / "query_log" / "ingest.py").write_text("raise ValueError('expected a log, got none')\n")
    with pytest.raises(AirflowError) as failure:
        run_night(capfdbinary)
    log = tmp_path / "logs" / f"airflow-catalog_nightly-{NIGHT}.log"
    assert str(failure.value) == (
        f"catalog_nightly {NIGHT}: task query_log.ingest failed: ValueError: expected a log, got none ({log})"
    )


def test_data_that_was_not_named_is_asked_for_in_one_line():
    answer = subprocess.run(
        [sys.executable, "-m", "scripts.run_dag", "catalog_nightly"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "MAKE_CATALOG": "catalog.parquet"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith("MAKE_QUERY_LOG not set")


def test_leaving_the_launcher_ends_all_that_it_started(tmp_path: Path):
    marker = tmp_path / "child"
    command = ["/bin/sh", "-c", f"sleep 300 & echo $! > {marker}; wait"]
    with (
        (tmp_path / "log").open("wb") as log,
        pytest.raises(KeyboardInterrupt),
        process_group(command, {"PATH": "/usr/bin:/bin"}, log),
    ):
        while not (marker.exists() and marker.read_text().strip()):
            time.sleep(0.05)
        raise KeyboardInterrupt
    child = Path(f"/proc/{marker.read_text().strip()}/stat")
    deadline = time.monotonic() + 30  # the signal was sent; a busy machine may take a moment to act on it
    while not has_ended(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert has_ended(child)


def has_ended(stat: Path) -> bool:
    """Whether the process is gone, or is a zombie that nobody has waited for yet."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
