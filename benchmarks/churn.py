"""What a night costs by how much of the catalog has changed, and how well its plan foretold that.

A catalog is embedded whole, then nights of the given shares of changed titles follow, each ingested, planned and
embedded by the jobs themselves, in processes of their own.

    python -m benchmarks.churn --model lake/models/<version> --catalog catalog.parquet --images images.parquet
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.table import markdown_table
from jobs.core.lake import Lake
from jobs.core.options import CommaSeparated, JobOptions, OptionsError, parse_options
from jobs.core.session import open_session
from schemas import JOB_RUNS, MODELS
from scripts.environment import ROOT, spark_environment

FIRST_NIGHT = dt.date(2026, 1, 1)
_PREDICTED = re.compile(r"about ([\d,]+) s as the last run was made")


class Options(BaseSettings):
    """Time nights that differ in how much of the catalog has changed, and compare each with its plan."""

    model_config = JobOptions.model_config

    model: Path = Field(description="Folder of a model.")
    catalog: Path = Field(description="Parquet of a catalog's snapshot.")
    images: Path = Field(description="Parquet of image_uri, content.")
    shares: CommaSeparated[float] = Field(
        [0.1, 0.01, 1.0, 0.01, 0.0], description="Shares of the titles that change, night after night, as a,b."
    )


class Night(NamedTuple):
    """One night.

    Attributes:
        changed: Items whose title changed.
        embedded: Items that the job embedded.
        model_seconds: Seconds that the model computed, over all workers.
        wall_seconds: The job, from its process's start to its end.
        startup_seconds: Of those, until the session was there.
        predicted_seconds: What the plan said for `wall_seconds`; None where it could not tell.
    """

    changed: int
    embedded: int
    model_seconds: float
    wall_seconds: float
    startup_seconds: float
    predicted_seconds: float | None


class Nights:
    """A lake of its own, and the jobs run over it.

    Args:
        options: The benchmark's options.
        folder: Where the lake, the snapshots and the logs go.
    """

    def __init__(self, options: Options, folder: Path) -> None:
        self._images, self._folder, self._lake = options.images, folder, folder / "lake"
        self._snapshot = pq.read_table(options.catalog)
        self._random = np.random.default_rng(0)
        self._date = FIRST_NIGHT
        self._put_model(options.model)

    def _put_model(self, folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        spark = open_session("benchmarks churn")
        lake = Lake(spark, str(self._lake))
        lake.upload(folder, "models", manifest["model_version"])
        now = dt.datetime.now(dt.UTC)
        row = {
            "model_version": manifest["model_version"],
            "weights_sha256": manifest["weights_digest"],
            "preprocessing_sha256": manifest["preprocessing_digest"],
            "training_set_id": "none",
            "training_settings": "{}",
            "dimension": json.loads((folder / "config.json").read_text())["embedding_dim"],
            "metrics": {},
            "stage": "promoted",
            "code_revision": None,
            "created_at": now,
            "promoted_at": now,
            "promotion_reason": None,
        }
        lake.append(MODELS, spark.createDataFrame([row], MODELS.schema))
        spark.stop()

    def run(self, share: float) -> Night:
        """Change that share of the titles, ingest, plan and embed."""
        self._date += dt.timedelta(days=1)
        changed = self._change_titles(round(share * self._snapshot.num_rows))
        snapshot = self._folder / "snapshot.parquet"
        pq.write_table(self._snapshot, snapshot)
        self._job("catalog", "ingest", f"--catalog={snapshot}", f"--images={self._images}")
        told = _PREDICTED.search(self._job("embedding", "items", "--plan"))
        self._job("embedding", "items")
        return self._night(changed, told and float(told[1].replace(",", "")))

    def _change_titles(self, count: int) -> int:
        titles = self._snapshot["title"].to_pylist()
        for place in self._random.choice(len(titles), count, replace=False):
            titles[place] = f"{titles[place]} {self._date:%d}"
        place = self._snapshot.schema.get_field_index("title")
        self._snapshot = self._snapshot.set_column(place, "title", pa.array(titles))
        return count

    def _job(self, domain: str, job: str, *options: str) -> str:
        """Run a job in a process of its own; returns what it told people."""
        console = self._folder / "console"
        console.unlink(missing_ok=True)
        console.touch()
        environment = {**spark_environment(), "MAKE_LOG_DIR": str(self._folder / "logs"), "MAKE_CONSOLE": str(console)}
        command = [sys.executable, "-m", "jobs", domain, job, f"--date={self._date}", f"--lake={self._lake}", *options]
        status = subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode
        if status:
            sys.exit(f"{domain} {job} of {self._date} ended with status {status}: {console.read_text()}")
        return console.read_text()

    def _night(self, changed: int, predicted: float | None) -> Night:
        """What the record of the last run says."""
        spark = open_session("benchmarks churn")
        runs = Lake(spark, str(self._lake)).read(JOB_RUNS).where("job = 'embedding items'")
        record = runs.orderBy("finished_at", ascending=False).first()
        spark.stop()
        return Night(
            changed=changed,
            embedded=record["rows_out"],
            model_seconds=record["seconds"].get("infer", 0.0),
            wall_seconds=(record["finished_at"] - record["started_at"]).total_seconds(),
            startup_seconds=record["seconds"]["startup"],
            predicted_seconds=predicted,
        )


def told(nights: list[Night]) -> str:
    """A Markdown table of the nights; shares are of the first, which embeds everything."""
    whole = nights[0]
    rows = [
        [
            "items changed",
            "embedded",
            "model, s",
            "of whole",
            "wall, s",
            "after start, s",
            "of whole",
            "planned, s",
            "off",
        ]
    ]
    for night in nights:
        after, of_whole = (n.wall_seconds - n.startup_seconds for n in (night, whole))
        planned = night.predicted_seconds
        rows.append(
            [
                f"{night.changed:,}",
                f"{night.embedded:,}",
                f"{night.model_seconds:.1f}",
                f"{night.model_seconds / whole.model_seconds:.1%}",
                f"{night.wall_seconds:.1f}",
                f"{after:.1f}",
                f"{after / of_whole:.0%}",
                "cannot tell" if planned is None else f"{planned:.0f}",
                "" if planned is None else f"{planned / night.wall_seconds - 1:+.0%}",
            ]
        )
    return markdown_table(rows)


def main(arguments: list[str]) -> None:
    """Embed everything, then night after night, and print the table."""
    try:
        options = parse_options(Options, arguments)
    except OptionsError as error:
        sys.exit(str(error))
    with tempfile.TemporaryDirectory() as folder:
        nights = Nights(options, Path(folder))
        print(told([nights.run(share) for share in (0.0, *options.shares)]))
        print(f"\n{options.model.name}, {os.cpu_count()} CPU cores")


if __name__ == "__main__":
    main(sys.argv[1:])
