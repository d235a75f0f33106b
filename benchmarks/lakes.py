"""A lake of a benchmark's own: a model and a catalog put into it, and the jobs run over it as people run them."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import torch
from pyspark.sql import Row, SparkSession

from jobs.core.job import JobRun
from jobs.core.lake import Lake
from jobs.core.session import open_session
from models.training.checkpoint import load_model_folder, save_model_folder
from schemas import JOB_RUNS, MODELS
from scripts.environment import ROOT, spark_environment

# For tables of a few rows: compiling code for them, or planning them anew halfway, costs more than running them.
FOR_TINY_TABLES = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
}


def repeated(catalog: pa.Table, rows: int) -> pa.Table:
    """So many rows of a catalog, from the beginning again where it ends, under ids of their own."""
    places = np.arange(rows)
    ids = catalog["item_id"].cast(pa.string()).take(places % catalog.num_rows).to_pylist()
    taken = catalog.take(places % catalog.num_rows)
    named = [
        f"{item}-{round_}" if round_ else item for item, round_ in zip(ids, places // catalog.num_rows, strict=True)
    ]
    return taken.set_column(catalog.schema.get_field_index("item_id"), "item_id", pa.array(named))


def run_in_session(lake: Lake, module: ModuleType, **options: object) -> Row:
    """Run a job in the session of this process, against any lake.

    Args:
        lake: The lake.
        module: Of `jobs`, the one that has `Options` and `run`.
        options: Of the job.

    Returns:
        Its row of `job_runs`, also of a run that failed or was skipped.
    """
    domain, name = module.__name__.split(".")[-2:]
    job = JobRun(f"{domain} {name}".replace("_", "-"), module.Options(lake=lake.root, **options))
    job.execute(module.run)
    return lake.read(JOB_RUNS).orderBy("finished_at", ascending=False).first()


def put_candidate(lake: Lake, spark: SparkSession, folder: Path) -> str:
    """Put a model into the lake that finds the opposite of what its first one does, promoted a day after its last one.

    Args:
        lake: A lake with a promoted model.
        spark: The session.
        folder: Where the model is made.

    Returns:
        Its version.
    """
    first, *_, last = 2 * lake.read(MODELS).where("stage = 'promoted'").orderBy("promoted_at").collect()
    loaded = load_model_folder(lake.local_dir("models", first["model_version"]))
    with torch.no_grad():
        loaded.model.item_projection.weight.mul_(-1.5).add_(0.01)
    promoted_at = last["promoted_at"] + dt.timedelta(days=1)
    manifest = save_model_folder(folder, loaded.model, loaded.processor, trained_on=promoted_at.date(), card="")
    version = manifest["model_version"]
    lake.upload(folder, "models", version)
    later = first.asDict() | {"model_version": version, "promoted_at": promoted_at}
    lake.append(MODELS, spark.createDataFrame([later], MODELS.schema))
    return version


class BenchmarkLake:
    """A lake in a folder, of which nothing is left when the folder is removed.

    Args:
        folder: Where the lake and its jobs' logs go.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "lake"
        self._console, self._logs = folder / "console", folder / "logs"

    def open(self) -> tuple[SparkSession, Lake]:
        """A session of this process, and the lake in it.  Stop the session before jobs are timed."""
        spark = open_session("make benchmarks")
        return spark, Lake(spark, str(self.root))

    def put_model(self, folder: Path) -> str:
        """Put a model folder into the lake and promote it; returns its version."""
        manifest = json.loads((folder / "manifest.json").read_text())
        version = manifest["model_version"]
        spark, lake = self.open()
        lake.upload(folder, "models", version)
        now = dt.datetime.now(dt.UTC)
        row = {
            **dict.fromkeys(MODELS.column_names),
            "model_version": version,
            "weights_sha256": manifest["weights_digest"],
            "preprocessing_sha256": manifest["preprocessing_digest"],
            "training_set_id": "none",
            "training_settings": "{}",
            "dimension": json.loads((folder / "config.json").read_text())["embedding_dim"],
            "metrics": {},
            "stage": "promoted",
            "created_at": now,
            "promoted_at": now,
        }
        lake.append(MODELS, spark.createDataFrame([row], MODELS.schema))
        spark.stop()
        return version

    def run_job(self, domain: str, job: str, *options: str) -> str:
        """Run a job in a process of its own; returns what it told people.

        Raises:
            SystemExit: It failed.
        """
        self._console.write_text("")
        environment = {
            **spark_environment(),
            "MAKE_LOG_DIR": str(self._logs),
            "MAKE_CONSOLE": str(self._console),
            "MAKE_LAKE": str(self.root),
        }
        command = [sys.executable, "-m", "jobs", domain, job, *options]
        status = subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode
        if status:
            sys.exit(f"{' '.join(command[2:])} ended with status {status}: {self._console.read_text()}")
        return self._console.read_text()

    def ingest(self, date: dt.date, catalog: Path, images: Path) -> None:
        """Ingest a snapshot of the catalog."""
        self.run_job("catalog", "ingest", f"--date={date}", f"--catalog={catalog}", f"--images={images}")

    def last_run(self, job: str) -> Row:
        """The record of the last run of a job, named as `embedding items`."""
        spark, lake = self.open()
        runs = lake.read(JOB_RUNS)
        record = runs.where(runs.job == job).orderBy("finished_at", ascending=False).first()
        spark.stop()
        return record
