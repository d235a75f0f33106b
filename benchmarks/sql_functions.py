"""The ten items nearest to a vector by comparing with all, in SQL: our function, SQL by hand, NumPy, DuckDB.

All read the same files of the lake's table.  Spark's session has the settings of `make sql-server`.  Round by round
each runs once, in another order; the first round warms up and does not count.

    python -m benchmarks.sql_functions --sizes 44072,1000000 --peers-python .venv-peers/bin/python
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.dataset as ds
from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.clustered import ClusteredVectors
from benchmarks.options import read_options
from benchmarks.table import markdown_table
from benchmarks.vector_lake import HELD_OUT_SERIES, VectorLake
from jobs.core.lake import Lake
from jobs.core.options import CommaSeparated, JobOptions
from jobs.core.session import open_session
from jobs.index.shard import vectors_of
from jobs.sql.register import register
from schemas import ITEM_EMBEDDINGS
from scripts.environment import ROOT

OURS, BY_HAND, NUMPY, DUCKDB, SCAN = "vector_inner_product", "SQL by hand", "NumPy", "DuckDB", "reading alone, Spark"
_BY_HAND = "aggregate(zip_with(embedding, {vector}, (x, y) -> x * y), 0D, (total, term) -> total + term)"


class Options(BaseSettings):
    """Find the ten nearest items by comparing with all of them, in every way, and compare."""

    model_config = JobOptions.model_config

    sizes: CommaSeparated[int] = Field([44_072, 1_000_000], description="Numbers of items, as a,b.")
    dimension: int = Field(128, ge=2, description="Length of a vector.")
    rounds: int = Field(5, ge=1, description="Times that each way runs, after one that does not count.")
    peers_python: Path = Field(description="Python of an environment with DuckDB.")


class Ways:
    """The ways to ask a lake, each a function that returns item_ids.

    Args:
        lake: A lake of vectors.
        query: (dimension,) float32.
        peers_python: Python of an environment with DuckDB.
    """

    def __init__(self, lake: Path, query: np.ndarray, peers_python: Path) -> None:
        self._query, self._peers_python = query, peers_python.absolute()
        self._spark = open_session("sql benchmark", properties="sql-server.conf")
        register(self._spark, Lake(self._spark, str(lake)))
        self._files = sorted(map(str, (lake / "tables" / ITEM_EMBEDDINGS.name).rglob("*.parquet")))
        self._vector = f"array({', '.join(f'{x:.9g}F' for x in query)})"

    def all(self) -> dict[str, Callable[[], tuple[list[str], float]]]:
        """Name to a function that gives item_ids and the seconds that it took."""
        return {
            SCAN: lambda: self._in_spark("float(size(embedding))"),
            OURS: lambda: self._in_spark(f"vector_inner_product(embedding, {self._vector})"),
            BY_HAND: lambda: self._in_spark(_BY_HAND.format(vector=self._vector)),
            NUMPY: self._in_numpy,
            DUCKDB: self._in_duckdb,
        }

    def stop(self) -> None:
        """End the session."""
        self._spark.stop()

    def _in_spark(self, score: str) -> tuple[list[str], float]:
        began = time.perf_counter()
        rows = self._spark.sql(
            f"SELECT item_id, {score} AS score FROM item_embeddings ORDER BY score DESC LIMIT 10"
        ).collect()
        return [row["item_id"] for row in rows], time.perf_counter() - began

    def _in_numpy(self) -> tuple[list[str], float]:
        began = time.perf_counter()
        table = ds.dataset(self._files).to_table(["item_id", "embedding"])
        scores = vectors_of(table) @ self._query
        best = np.argpartition(-scores, 10)[:10]
        best = best[np.argsort(-scores[best])]
        return table["item_id"].take(best).to_pylist(), time.perf_counter() - began

    def _in_duckdb(self) -> tuple[list[str], float]:
        work = json.dumps({"files": self._files, "vector": self._query.tolist()})
        command = [self._peers_python, "-m", "benchmarks.engines.duckdb_scan"]
        told = subprocess.run(command, input=work, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        answer = json.loads(told)
        return answer["item_ids"], answer["seconds"]


def measure(ways: Ways, rounds: int) -> dict[str, list[float]]:
    """Seconds of every way, round by round."""
    seconds: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        named = list(ways.all().items())
        answers = {}
        for name, ask in named[:: -1 if number % 2 else 1]:
            answers[name], took = ask()
            if number:
                seconds.setdefault(name, []).append(took)
        expected = answers[NUMPY]
        wrong = [name for name, found in answers.items() if name != SCAN and found != expected]
        if wrong:
            sys.exit(
                f"{', '.join(wrong)} found other items than NumPy: {[answers[name] for name in wrong]}, {expected}"
            )
    return seconds


def told(size: int, seconds: dict[str, list[float]]) -> list[list[str]]:
    """A row for every way."""
    return [
        [
            f"{size:,}",
            name,
            f"{median(took):.3f}",
            f"{size / median(took):,.0f}",
            f"{median(ours / other for ours, other in zip(seconds[OURS], took, strict=True)):.2f}",
        ]
        for name, took in seconds.items()
    ]


def main(arguments: list[str]) -> None:
    """Measure every size, and print the table."""
    options = read_options(Options, arguments)
    rows = [["items", "", "seconds", "rows/s", "ours takes, of this"]]
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            vectors = ClusteredVectors(options.dimension)
            lake = VectorLake(Path(folder), vectors, size)
            ways = Ways(lake.root, vectors.queries(1, series=HELD_OUT_SERIES)[0], options.peers_python)
            rows += told(size, measure(ways, options.rounds))
            ways.stop()
    print(markdown_table(rows))
    print(f"\nVectors of {options.dimension}, {options.rounds} rounds, {os.cpu_count()} CPU cores")


if __name__ == "__main__":
    main(sys.argv[1:])
