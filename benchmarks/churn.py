"""What a night costs by how much of the catalog has changed, and how well its plan foretold that.

A catalog is embedded whole, then nights of the given shares of changed titles follow, each ingested, planned and
embedded by the jobs themselves, in processes of their own.

    python -m benchmarks.churn --model lake/models/<version> --catalog catalog.parquet --images images.parquet
"""

from __future__ import annotations

import datetime as dt
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.lakes import BenchmarkLake
from benchmarks.options import read_options
from benchmarks.table import markdown_table
from jobs.core.options import CommaSeparated, JobOptions

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
        seconds: By stage, as the job recorded them.
        wall_seconds: The job, from its process's start to its end.
        predicted_seconds: What the plan said for `wall_seconds`; None where it could not tell.
    """

    changed: int
    embedded: int
    seconds: Mapping[str, float]
    wall_seconds: float
    predicted_seconds: float | None


class Nights:
    """A lake of its own, and the jobs run over it.

    Args:
        options: The benchmark's options.
        folder: Where the lake and the snapshot go.
    """

    def __init__(self, options: Options, folder: Path) -> None:
        self._images, self._snapshot_file = options.images, folder / "snapshot.parquet"
        self._snapshot = pq.read_table(options.catalog)
        self._random = np.random.default_rng(0)
        self._date = FIRST_NIGHT
        self._lake = BenchmarkLake(folder)
        self._lake.put_model(options.model)

    def run(self, share: float) -> Night:
        """Change that share of the titles, ingest, plan and embed."""
        self._date += dt.timedelta(days=1)
        changed = self._change_titles(round(share * self._snapshot.num_rows))
        pq.write_table(self._snapshot, self._snapshot_file)
        self._lake.ingest(self._date, self._snapshot_file, self._images)
        predicted = _PREDICTED.search(self._run("embedding", "items", "--plan"))
        self._run("embedding", "items")
        record = self._lake.last_run("embedding items")
        return Night(
            changed=changed,
            embedded=record["rows_out"],
            seconds=record["seconds"],
            wall_seconds=(record["finished_at"] - record["started_at"]).total_seconds(),
            predicted_seconds=predicted and float(predicted[1].replace(",", "")),
        )

    def _change_titles(self, count: int) -> int:
        titles = self._snapshot["title"].to_pylist()
        for place in self._random.choice(len(titles), count, replace=False):
            titles[place] = f"{titles[place]} {self._date:%d}"
        place = self._snapshot.schema.get_field_index("title")
        self._snapshot = self._snapshot.set_column(place, "title", pa.array(titles))
        return count

    def _run(self, domain: str, job: str, *options: str) -> str:
        return self._lake.run_job(domain, job, f"--date={self._date}", *options)


def told(nights: list[Night]) -> str:
    """A Markdown table of the nights; shares are of the first, which embeds everything."""
    stages = ("startup", "find_work", "embed", "merge")
    rows = [["changed", "embedded", *stages, "wall, s", "model, of all", "after start, of all", "planned, s", "off by"]]
    for night in nights:
        model, after = (
            part(night) / part(nights[0])
            for part in (lambda n: n.seconds.get("infer", 0.0), lambda n: n.wall_seconds - n.seconds["startup"])
        )
        planned = night.predicted_seconds
        rows.append(
            [
                f"{night.changed:,}",
                f"{night.embedded:,}",
                *(f"{night.seconds.get(stage, 0.0):.1f}" for stage in stages),
                f"{night.wall_seconds:.1f}",
                f"{model:.1%}",
                f"{after:.0%}",
                "cannot tell" if planned is None else f"{planned:.0f}",
                "" if planned is None else f"{planned / night.wall_seconds - 1:+.0%}",
            ]
        )
    return markdown_table(rows)


def main(arguments: list[str]) -> None:
    """Embed everything, then night after night, and print the table."""
    options = read_options(Options, arguments)
    with tempfile.TemporaryDirectory() as folder:
        nights = Nights(options, Path(folder))
        print(told([nights.run(share) for share in (0.0, *options.shares)]))
        print(f"\n{options.model.name}, {os.cpu_count()} CPU cores")


if __name__ == "__main__":
    main(sys.argv[1:])
