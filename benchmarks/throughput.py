"""How fast `embedding items` embeds, as a share of the bare model loop, and beside other engines on the same work.

Every engine embeds few products, then many, and what counts is the time that the further ones took: sessions, workers
and models that have to be opened first drop out.  The job is timed as a whole, its table work included.  All begin
cold, each time in a process of their own.

    python -m benchmarks.throughput --model lake/models/<version> --catalog catalog.parquet --images images.parquet

Ray Data and Daft need an environment of their own: `uv venv .venv-peers`, then `uv pip install --python .venv-peers
-r requirements/peers.txt`, then `--peers-python .venv-peers/bin/python`.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.lakes import BenchmarkLake, repeated
from benchmarks.options import read_options
from benchmarks.table import markdown_table
from jobs.core.options import JobOptions
from scripts.environment import ROOT, spark_environment

NIGHT = dt.date(2026, 1, 1)
JOB, EMBED_STAGE = "embedding items", "its stage `embed`"
BARE_LOOP = "PyTorch DataLoader, the bare loop"
# How people know an engine, and its file in benchmarks/engines/.
IN_THIS_ENVIRONMENT = {BARE_LOOP: "bare_loop", "predict_batch_udf": "predict_batch"}
PEERS = {"Ray Data": "ray_data", "Daft": "daft_udf"}


class Options(BaseSettings):
    """Time the job and other engines on the same products with the same model."""

    model_config = JobOptions.model_config

    model: Path = Field(description="Folder of a model.")
    catalog: Path = Field(description="Parquet of a catalog's snapshot.")
    images: Path = Field(description="Parquet of image_uri, content.")
    with_photo_only: bool = Field(False, description="Leave out products whose photo is not among the images.")
    few: int = Field(4_000, ge=1, description="Products of the smaller run.")
    many: int | None = Field(None, ge=1, description="Of the larger one, by default all; more: some come repeatedly.")
    rounds: int = Field(3, ge=1, description="Times that every engine is timed, in turn.")
    peers_python: Path | None = Field(None, description="Python of an environment with Ray Data and Daft.")


class Work:
    """The same products in two forms: files for the engines, a lake for the job; few of them, and all.

    Args:
        options: The benchmark's options.
        folder: Where they go.
    """

    def __init__(self, options: Options, folder: Path) -> None:
        self._model, self._output = options.model.resolve(), folder / "vectors"
        catalog, images = pq.read_table(options.catalog), pq.read_table(options.images)
        if options.with_photo_only:
            catalog = catalog.filter(pa.compute.is_in(catalog["image_uri"], images["image_uri"].combine_chunks()))
        catalog = repeated(catalog, options.many or catalog.num_rows)
        self.sizes = (options.few, catalog.num_rows)
        self._files, self._lakes = [], []
        for size in self.sizes:
            part, place = catalog.slice(0, size), folder / str(size)
            place.mkdir()
            self._files.append(_products(part, images, place / "products.parquet"))
            self._lakes.append(_lake(part, options, place))

    def time_job(self) -> dict[str, list[float]]:
        """Seconds over few products and over all: of the job from its session's start, and of its stage `embed`."""
        seconds: dict[str, list[float]] = {JOB: [], EMBED_STAGE: []}
        for folder in self._lakes:
            copy = folder.with_name("copy")
            shutil.copytree(folder, copy)
            lake = BenchmarkLake(copy)
            lake.run_job("embedding", "items", f"--date={NIGHT}")
            record = lake.last_run(JOB)
            shutil.rmtree(copy)
            wall = (record["finished_at"] - record["started_at"]).total_seconds()
            seconds[JOB].append(wall - record["seconds"]["startup"])
            seconds[EMBED_STAGE].append(record["seconds"]["embed"])
        return seconds

    def time_engine(self, python: str | Path, engine: str) -> list[float]:
        """Seconds of an engine over few products and over all."""
        return [self._time_engine(python, engine, file) for file in self._files]

    def _time_engine(self, python: str | Path, engine: str, file: Path) -> float:
        command = [python, "-m", f"benchmarks.engines.{engine}", self._model, self._output, file]
        answer = subprocess.run(command, cwd=ROOT, env=spark_environment(), capture_output=True, text=True, check=False)
        if answer.returncode:
            sys.exit(f"{engine} ended with status {answer.returncode}:\n{answer.stderr}")
        shutil.rmtree(self._output)
        return float(answer.stdout.splitlines()[-1])


def _products(catalog: pa.Table, images: pa.Table, file: Path) -> Path:
    """Write what an engine reads: item_id, title, photo."""
    photos = images.select(["image_uri", "content"]).rename_columns(["image_uri", "photo"])
    products = catalog.select(["item_id", "title", "image_uri"]).join(photos, "image_uri", join_type="left outer")
    pq.write_table(products.drop_columns("image_uri"), file, row_group_size=1024)
    return file


def _lake(catalog: pa.Table, options: Options, folder: Path) -> Path:
    """A lake that holds the catalog and the model, and no vector yet."""
    pq.write_table(catalog, folder / "snapshot.parquet")
    lake = BenchmarkLake(folder)
    lake.put_model(options.model)
    lake.ingest(NIGHT, folder / "snapshot.parquet", options.images)
    return folder


def measure(work: Work, options: Options) -> dict[str, list[list[float]]]:
    """Engine to its seconds over few products and over all, round by round."""
    engines = {name: (sys.executable, engine) for name, engine in IN_THIS_ENVIRONMENT.items()}
    if options.peers_python is not None:
        engines |= {name: (options.peers_python.absolute(), engine) for name, engine in PEERS.items()}
    timed: dict[str, list[list[float]]] = {name: [] for name in (JOB, EMBED_STAGE, *engines)}
    for _ in range(options.rounds):
        for name, seconds in work.time_job().items():
            timed[name].append(seconds)
        for name, engine in engines.items():
            timed[name].append(work.time_engine(*engine))
    return timed


def told(timed: dict[str, list[list[float]]], sizes: tuple[int, int]) -> str:
    """A Markdown table: products a second of each engine, and the share of the bare loop's round by round."""
    few, many = sizes
    rates = {name: [(many - few) / (all_ - some) for some, all_ in rounds] for name, rounds in timed.items()}
    rows = [["", "few, s", "all, s", "products/s", "of the bare loop", "lowest to highest"]]
    for name, rounds in timed.items():
        shares = [rate / bare for rate, bare in zip(rates[name], rates[BARE_LOOP], strict=True)]
        some, all_ = (median(seconds) for seconds in zip(*rounds, strict=True))
        rows.append(
            [
                name,
                f"{some:.1f}",
                f"{all_:.1f}",
                f"{median(rates[name]):,.0f}",
                f"{median(shares):.2f}",
                f"{min(shares):.2f} to {max(shares):.2f}",
            ]
        )
    return markdown_table(rows)


def main(arguments: list[str]) -> None:
    """Time every engine, and print the table."""
    options = read_options(Options, arguments)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(options, Path(folder))
        print(told(measure(work, options), work.sizes))
        few, many = work.sizes
        print(f"\n{few:,} and {many:,} products, {options.rounds} rounds, {options.model.name}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main(sys.argv[1:])
