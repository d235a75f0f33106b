"""How long `index build` takes, and what its index is worth, beside autofaiss over the same vectors.

autofaiss chooses a key; the job is given the same one, then builds once more by its own choice.  Each builds in a
process of its own, one after the other, in another order every round.  The job reads a lake that holds the vectors,
autofaiss .npy files.  What counts is the whole process, Spark's start and the records in the lake included, and the
memory of the whole process tree.  Both indexes are then asked for the neighbours of vectors that neither has seen,
with the settings that each has chosen for its searches.

    python -m benchmarks.index_build --items 1000000 --peers-python .venv-peers/bin/python

`benchmarks.throughput` says how the environment of that Python is made.
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
from typing import NamedTuple

import faiss
import numpy as np
from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.clustered import ClusteredVectors
from benchmarks.options import read_options
from benchmarks.peaks import watched
from benchmarks.searching import DEEP, Searched, item_search, measure_search, search_alone, settings_of
from benchmarks.table import markdown_table
from benchmarks.vector_lake import HELD_OUT_SERIES, Built, VectorLake
from jobs.core.options import JobOptions
from jobs.index.searcher import Searcher
from scripts.environment import ROOT

AUTOFAISS, SAME_KEY, OWN_CHOICE = "autofaiss", "`index build`, same key", "`index build`, own choice"
_COMPARED = ("seconds", "peak_bytes", "index_bytes")


class Options(BaseSettings):
    """Build an index of the same vectors with autofaiss and with the job, and compare."""

    model_config = JobOptions.model_config

    items: int = Field(1_000_000, ge=1, description="Vectors to index.")
    dimension: int = Field(128, ge=2, description="Length of a vector.")
    queries: int = Field(1_000, ge=1, description="Held-out vectors whose neighbours are searched for.")
    rounds: int = Field(2, ge=1, description="Times that every index is built, in turn.")
    peers_python: Path = Field(description="Python of an environment with autofaiss.")


class Index(NamedTuple):
    """One index, built and asked.

    Attributes:
        key: FAISS factory string.
        settings: How hard it is searched, as FAISS' `ParameterSpace` is told it.
        shards: Files that it lies in.
        seconds: Of the whole process.
        peak_bytes: Of the whole process tree.
        index_bytes: Of the FAISS files.
        searched: What searching it is worth.
        searched_alike: The same with autofaiss' settings; None where they do not fit.
    """

    key: str
    settings: str
    shards: int
    seconds: float
    peak_bytes: int
    index_bytes: int
    searched: Searched
    searched_alike: Searched | None = None


class Work:
    """The same vectors in two forms, .npy files and a lake, and the held-out queries with their true neighbours.

    Args:
        options: The benchmark's options.
        folder: Where they go.
    """

    def __init__(self, options: Options, folder: Path) -> None:
        self._folder, self._peers_python = folder, options.peers_python.absolute()
        vectors = ClusteredVectors(options.dimension)
        self._embeddings = folder / "embeddings"
        self._embeddings.mkdir()
        for number, block in enumerate(vectors.blocks(options.items)):
            np.save(self._embeddings / f"{number:05d}.npy", block.vectors)
        self._lake = VectorLake(folder, vectors, options.items)
        self._queries = vectors.queries(options.queries, series=HELD_OUT_SERIES)
        self._nearest = vectors.nearest(self._queries, DEEP, items=options.items)

    def build_with_autofaiss(self) -> Index:
        """Let autofaiss choose, build and tune."""
        index_file, infos_file, log_file = (self._folder / f"autofaiss.{name}" for name in ("index", "json", "log"))
        command = [self._peers_python, "-m", "benchmarks.engines.autofaiss_index"]
        with watched() as peaks, log_file.open("w") as log:
            began = time.perf_counter()
            paths = [self._embeddings, index_file, infos_file]
            status = subprocess.run([*command, *paths], cwd=ROOT, stdout=log, stderr=log, check=False).returncode
            seconds = time.perf_counter() - began
        if status:
            sys.exit(f"autofaiss ended with status {status}:\n{log_file.read_text()}")
        infos = json.loads(infos_file.read_text())
        index = faiss.read_index(str(index_file))
        faiss.ParameterSpace().set_index_parameters(index, infos["index_param"])
        return Index(
            key=infos["index_key"],
            settings=infos["index_param"],
            shards=1,
            seconds=seconds,
            peak_bytes=peaks.tree_bytes,
            index_bytes=index_file.stat().st_size,
            searched=measure_search(lambda queries, k: index.search(queries, k)[1], self._queries, self._nearest),
        )

    def build_like(self, autofaiss: Index) -> Index:
        """Run `index build` with the key of an index that autofaiss built."""
        built = self._lake.build(f"--index-key={autofaiss.key}")
        alike = measure_search(search_alone(built.folder, autofaiss.settings), self._queries, self._nearest)
        return self._described(built)._replace(searched_alike=alike)

    def build_by_own_choice(self) -> Index:
        """Run `index build` without further options."""
        return self._described(self._lake.build())

    def _described(self, built: Built) -> Index:
        searcher = Searcher.open(str(built.folder))
        return Index(
            key=searcher.manifest.index_key,
            settings=settings_of(searcher.manifest.effort),
            shards=len(searcher.manifest.shards),
            seconds=built.seconds,
            peak_bytes=built.peaks.tree_bytes,
            index_bytes=built.index_bytes,
            searched=measure_search(item_search(searcher), self._queries, self._nearest),
        )


def measure(work: Work, rounds: int) -> dict[str, list[Index]]:
    """Build every index so many times; round by round the order is reversed."""
    indexes: dict[str, list[Index]] = {AUTOFAISS: [], SAME_KEY: [], OWN_CHOICE: []}
    builders: dict[str, Callable[[], Index]] = {
        AUTOFAISS: work.build_with_autofaiss,
        SAME_KEY: lambda: work.build_like(indexes[AUTOFAISS][-1]),
        OWN_CHOICE: work.build_by_own_choice,
    }
    for number in range(rounds):
        for name in list(builders)[:: -1 if number % 2 else 1]:
            indexes[name].append(builders[name]())
    return indexes


def told(indexes: dict[str, list[Index]]) -> str:
    """Three Markdown tables: what building took, ratios to autofaiss' of the same round, and what searching gave."""
    building = [["", "key", "shards", "wall, s", "peak of all processes, MiB", "index, MiB"]]
    ratios = [["of autofaiss'", "wall", "lowest to highest", "peak", "index"]]
    searching = [["", "settings", "recall@10", "recall@100", "ms a query, alone", "together"]]
    for name, built in indexes.items():
        first = built[0]
        seconds, peak, size = (median(getattr(index, figure) for index in built) for figure in _COMPARED)
        sizes = [f"{peak / 2**20:,.0f}", f"{size / 2**20:,.0f}"]
        building.append([name, f"`{first.key}`", str(first.shards), f"{seconds:,.0f}", *sizes])
        if name != AUTOFAISS:
            wall, *others = (_ratios(built, indexes[AUTOFAISS], figure) for figure in _COMPARED)
            shares = [f"{median(share):.2f}" for share in others]
            ratios.append([name, f"{median(wall):.2f}", f"{min(wall):.2f} to {max(wall):.2f}", *shares])
        searching.append([name, _settings(built), *_told_searches([index.searched for index in built])])
        if first.searched_alike:
            alike = _told_searches([index.searched_alike for index in built])
            searching.append([name, _settings(indexes[AUTOFAISS]), *alike])
    return "\n\n".join(map(markdown_table, (building, ratios, searching)))


def _ratios(ours: list[Index], theirs: list[Index], figure: str) -> list[float]:
    return [getattr(one, figure) / getattr(other, figure) for one, other in zip(ours, theirs, strict=True)]


def _settings(built: list[Index]) -> str:
    return ", ".join(dict.fromkeys(f"`{index.settings}`" for index in built))


def _told_searches(searches: list[Searched]) -> list[str]:
    *recalls, alone, together = (median(figures) for figures in zip(*searches, strict=True))
    return [*(f"{recall:.4f}" for recall in recalls), f"{alone:.2f}", f"{together:.2f}"]


def main(arguments: list[str]) -> None:
    """Build everything, and print the tables."""
    options = read_options(Options, arguments)
    with tempfile.TemporaryDirectory() as folder:
        print(told(measure(Work(options, Path(folder)), options.rounds)))
        size = f"{options.items:,} vectors of {options.dimension}"
        print(f"\n{size}, {options.queries:,} queries, {options.rounds} rounds, {os.cpu_count()} CPU cores")


if __name__ == "__main__":
    main(sys.argv[1:])
