"""What runs left behind: a line each in `runs.jsonl`, and every query's measures in a small Parquet file."""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from jobs.training.slices import ALL, JudgedQuery, cut_slices

MEASURES = ("recall_at_10", "recall_at_100", "ndcg_at_10")
SLICES = (ALL, "wording=plain", "wording=colloquial", "titles that lack a word", "items never shown")


class Run(BaseModel):
    """A finished cell under one seed.

    Attributes:
        parameters, products_per_second, steps: of the training; None for what is not trained by itself.
        held_out: figures of the training set's held-out products, by name; empty for what is not trained by itself.
        figures: means over judged queries, slice by slice: `recall_at_10 [items never shown]`.
        note: what else was found.
    """

    cell: str
    seed: int
    parameters: int | None = None
    products_per_second: float | None = None
    steps: int | None = None
    held_out: dict[str, float] = {}
    figures: dict[str, float] = {}
    device: str
    note: str = ""


class Results:
    """A folder of finished runs that were all asked for alike; several processes may fill it.

    Args:
        folder: made if absent.
        asked: what the runs share, as JSON has it.

    Raises:
        ValueError: the folder holds runs that were asked for otherwise.
    """

    def __init__(self, folder: Path, *, asked: Mapping[str, Any]) -> None:
        self.folder, self.asked = folder, dict(asked)
        for part in ("queries", "unfinished"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self._summary = folder / "runs.jsonl"
        self.runs: dict[tuple[str, int], Run] = {}
        self.read()

    def read(self) -> None:
        """Look again at what is finished, by whichever process."""
        for line in self._summary.read_text("utf-8").splitlines() if self._summary.exists() else []:
            entry = json.loads(line)
            if entry["asked"] != self.asked:
                raise ValueError(
                    f"{self._summary} holds runs of {entry['asked']}, expected {self.asked}: "
                    "ask for the same, or name another folder with --results."
                )
            run = Run.model_validate(entry["run"])
            self.runs[run.cell, run.seed] = run

    def of_cell(self, cell: str) -> list[Run]:
        """The finished runs of a cell, by seed."""
        return [self.runs[key] for key in sorted(self.runs) if key[0] == cell]

    def holds(self, cell: str, seed: int) -> bool:
        """Whether this run is finished."""
        return (cell, seed) in self.runs

    @contextmanager
    def claim(self, cell: str, seed: int) -> Iterator[bool]:
        """Whether a run is this process's to do: it is not finished, and no other process is at it within its block."""
        with self.unfinished(cell, seed).with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            self.read()
            yield not self.holds(cell, seed)

    def unfinished(self, cell: str, seed: int) -> Path:
        """Where a run keeps its checkpoint."""
        return self.folder / "unfinished" / f"{file_name(cell)}-{seed}"

    def add(self, run: Run, queries: Sequence[JudgedQuery], ranked: Sequence[Sequence[str]]) -> str:
        """Measure and keep a run; its line is written last.  Returns a line for people."""
        tables = []
        for part in (part for part in cut_slices(queries) if part.name in SLICES):
            measured = part.measure(ranked)
            ids = [queries[position].query_id for position in part.positions]
            columns = {"slice": [part.name] * len(ids), "query_id": ids, **{name: measured[name] for name in MEASURES}}
            tables.append(pa.table(columns))
            run.figures |= {f"{name} [{part.name}]": float(measured[name].mean()) for name in MEASURES}
        pq.write_table(pa.concat_tables(tables), self._path(run.cell, run.seed))
        with self._summary.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"asked": self.asked, "run": run.model_dump()}) + "\n")
        self.runs[run.cell, run.seed] = run
        figures = ", ".join(f"{name} {run.figures[f'{name} [{ALL}]']:.3f}" for name in MEASURES)
        return f"{run.cell}, seed {run.seed}: {figures}"

    def by_query(self, cell: str, seed: int, slice_name: str = ALL) -> tuple[list[str], dict[str, np.ndarray]]:
        """The slice's query ids, and each measure's (queries,) values."""
        table = pq.read_table(self._path(cell, seed), filters=[("slice", "=", slice_name)])
        return table["query_id"].to_pylist(), {name: table[name].to_numpy() for name in MEASURES}

    def _path(self, cell: str, seed: int) -> Path:
        return self.folder / "queries" / f"{file_name(cell)}-{seed}.parquet"


def file_name(cell: str) -> str:
    """A cell's name as part of a path."""
    return re.sub(r"[^a-z0-9]+", "-", cell.lower()).strip("-")
