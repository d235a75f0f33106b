"""The whole chain on a made-up catalog: generate it, train, run two nights through Airflow, show what came of it."""

import datetime as dt
import shutil
import subprocess
import time
from pathlib import Path

from scripts.airflow import AirflowError, end_well
from scripts.environment import ROOT, SPARK_VENV, spark_environment
from scripts.run_dag import run_dag

DEMO = ROOT / "demo"
DATA = DEMO / "data"
LAKE = DEMO / "lake"
NIGHTS = (dt.date(2026, 11, 20), dt.date(2026, 11, 21))
ITEMS = 3000
DAYS_OF_LOG = 7
# Of so small a catalog, batches of the default size would make too few steps.
TRAINING = {"epochs": 10, "batch_size": 128}


def inputs() -> dict[str, str]:
    """What the jobs of any of its nights are to read and write."""
    return {
        "MAKE_CATALOG": str(DATA / "{date}" / "catalog"),
        "MAKE_IMAGES": str(DATA / "{date}" / "images"),
        "MAKE_QUERY_LOG": str(DATA / "{date}" / "query_log"),
        "MAKE_JUDGED_QUERIES": str(DATA / "judged_queries.parquet"),
        "MAKE_JUDGMENTS": str(DATA / "judgments.parquet"),
        "MAKE_LAKE": str(LAKE),
    }


def main() -> None:
    """Start from an empty folder, so that every demo shows the same."""
    started = time.time()
    shutil.rmtree(DEMO, ignore_errors=True)
    first, _ = NIGHTS

    _announce(f"a catalog of {ITEMS:,} items, its photos and {DAYS_OF_LOG} days of query log")
    options = (f"--items={ITEMS}", f"--date={first}", f"--days={DAYS_OF_LOG}", "--seed=7")
    _run_module("jobs", "catalog", "generate", f"--output={DATA}", f"--lake={LAKE}", *options)

    _announce(f"make_training: {first}")
    params = {"window_days": DAYS_OF_LOG, **TRAINING}
    print(run_dag("make_training", first, params=params, inputs=inputs()).summary())
    for night in NIGHTS:
        _announce(f"catalog_nightly: {night}")
        print(run_dag("catalog_nightly", night, params={}, inputs=inputs()).summary())

    _announce("what came of it")
    _run_module("scripts.demo_summary", str(LAKE), str(DATA), str(started))


def _announce(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _run_module(module: str, *arguments: str) -> None:
    command: list[str | Path] = [SPARK_VENV / "bin" / "python", "-m", module, *arguments]
    finished = subprocess.run(command, env=spark_environment(), cwd=ROOT, check=False)
    if finished.returncode != 0:
        raise AirflowError(f"{module} {' '.join(arguments[:2])} failed; logs/jobs.log says why.")


if __name__ == "__main__":
    end_well(main)
