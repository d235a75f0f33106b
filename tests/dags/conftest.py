"""An Airflow of its own for these tests, and a spark-submit that only writes down how it was called."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Airflow reads these when it is first imported.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-tests-")
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(ROOT / "dags")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["MAKE_TASK_RETRIES"] = "0"
os.environ["AIRFLOW_CONN_SPARK_DEFAULT"] = '{"conn_type": "spark", "host": "local[*]"}'
sys.path.insert(0, str(ROOT / "dags"))

# A line a call, a tab between arguments.
SPARK_SUBMIT = """#!/bin/sh
(IFS='	'; echo "$*") >> "$SUBMITTED"
echo "$MAKE_KEEP_BUILDS" >> "$SUBMITTED.settings"
env | grep '^OPENLINEAGE_' >> "$SUBMITTED.lineage"
case "$*" in
    *"--master k8s://"*) echo "	 pod name: make-night-0a1b2c-driver" ;;
    *"--deploy-mode cluster"*) echo "Submitted application application_1700000000000_0001" ;;
    *"$SKIPPED_JOB"*) exit 99 ;;
    *"$REPEATED_JOB"*) [ "$(grep -c "$REPEATED_JOB" "$SUBMITTED")" -ge 3 ] || exit 75 ;;
    *"$FAILED_JOB"*)
        echo "index check            FAILED        1.0 s   "
        echo "  recall_at_10 is 0.9100, bound 0.9500"
        echo "INFO ShutdownHookManager: Shutdown hook called"
        exit 1 ;;
esac
"""


@pytest.fixture(scope="session")
def airflow_database() -> None:
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)


class Submissions:
    """What spark-submit was called with.  `skip`, `fail` and `repeat` name a job's file that shall end that way."""

    def __init__(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file = file
        self._environment = monkeypatch
        monkeypatch.setenv("SUBMITTED", str(file))
        self.skip("none")
        self.fail("none")
        self.repeat("none")

    def skip(self, job: str) -> None:
        self._environment.setenv("SKIPPED_JOB", f"/{job}.py")

    def fail(self, job: str) -> None:
        self._environment.setenv("FAILED_JOB", f"/{job}.py")

    def repeat(self, job: str) -> None:
        """The job asks to be run again until its third time."""
        self._environment.setenv("REPEATED_JOB", f"/{job}.py")

    def arguments_of(self, job: str) -> list[str]:
        """The job's own arguments, the run's id aside; the same each time, if it ran several times."""
        (line,) = {line for line in self._file.read_text().splitlines() if f"/{job}.py" in line}
        of_job = line.partition(f"/{job}.py\t")[2].split("\t")
        return [argument for argument in of_job if not argument.startswith(("--run-id=", "--attempt="))]

    @property
    def has_any(self) -> bool:
        return self._file.exists()

    def times(self, job: str) -> int:
        """How often the job ran."""
        return self._file.read_text().count(f"/{job}.py")

    def kept_builds(self) -> set[str]:
        """What the jobs' environment said of MAKE_KEEP_BUILDS."""
        return set(self._file.with_suffix(".settings").read_text().splitlines())

    def lineage(self) -> set[str]:
        """Lines of what the jobs' environment said of OpenLineage."""
        return set(self._file.with_suffix(".lineage").read_text().splitlines())

    def run_ids(self) -> set[str]:
        words = self._file.read_text().split()
        return {word.removeprefix("--run-id=") for word in words if word.startswith("--run-id=")}


@pytest.fixture
def submissions(airflow_database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submissions:
    stub = tmp_path / "bin" / "spark-submit"
    stub.parent.mkdir()
    stub.write_text(SPARK_SUBMIT)
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}{os.pathsep}{os.environ['PATH']}")
    return Submissions(tmp_path / "submitted", monkeypatch)
