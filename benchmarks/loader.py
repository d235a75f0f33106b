"""What a training step waits for its batch: Petastorm against a batch in memory and a plain PyTorch DataLoader.

The same step is timed with each source of batches in turn, block by block, so that what else the machine does meets
all of them alike.

    python -m benchmarks.loader --training-set lake/training_sets/<id>
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.options import read_options
from jobs.core.options import JobOptions
from models.make.objectives import TrainingBatch
from models.training.computation import keep_freed_memory
from models.training.data import TrainingData
from models.training.distributed import joined_process
from models.training.loader import BatchLoader
from models.training.reader import SOURCE_COLUMNS, Row, RowTransform
from models.training.trainer import Trainer, TrainSettings

IN_MEMORY, PETASTORM, DATA_LOADER = "in memory", "Petastorm", "DataLoader"
# Batches that stand in memory and are given again and again.
_KEPT_BATCHES = 16
_RESAMPLES = 2000


class Options(BaseSettings):
    """Time a training step with its batches from Petastorm, from memory and from a plain PyTorch DataLoader."""

    model_config = JobOptions.model_config

    training_set: Path = Field(description="Folder of a training set.")
    batch_size: int = Field(512, ge=2, description="Products a step.")
    rounds: int = Field(6, ge=1, description="Blocks of each source, one after the other.")
    settling: int = Field(6, ge=0, description="Steps at the start of a block that are not timed: queues are full.")
    steps: int = Field(15, ge=1, description="Timed steps a block.")
    cache_mb: int = Field(1024, ge=0, description="As in training; 0: every epoch decodes, like the first.")
    threads: int | None = Field(None, ge=1, description="CPU threads; None: as many as there are cores.")


class PlainReader:
    """Does what `RowReader` does with pyarrow alone: row groups in an order drawn anew, and the same transform."""

    def __init__(self, folder: Path, transform: RowTransform, *, seed: int) -> None:
        self._transform = transform
        files = [pq.ParquetFile(path) for path in sorted(folder.glob("*.parquet"))]
        groups = [(file, group) for file in files for group in range(file.num_row_groups)]
        self._groups = [groups[place] for place in np.random.default_rng(seed).permutation(len(groups))]

    def __iter__(self) -> Iterator[list[Row]]:
        for file, group in self._groups:
            rows: pd.DataFrame = file.read_row_group(group, columns=SOURCE_COLUMNS).to_pandas()
            columns = self._transform(rows)
            yield [Row(*values) for values in zip(*(columns[name] for name in Row._fields), strict=True)]

    def close(self) -> None:
        """Nothing runs on."""


class PlainData(TrainingData):
    """`TrainingData` whose rows a `PlainReader` reads."""

    def _open(self, epoch: int) -> PlainReader:
        transform = RowTransform(
            self._processor,
            added=self._added,
            prepared=self._prepared,
            seed=epoch,
            pool=ThreadPoolExecutor(max_workers=self._decode_threads),
        )
        return PlainReader(self._folder, transform, seed=epoch)


def endless(data: TrainingData) -> Iterator[TrainingBatch]:
    """One epoch after the other, from a process that reads ahead."""
    loader = BatchLoader(data, first=0, skip=0, epochs=sys.maxsize)
    while True:
        yield from loader.epoch()


class Timed(NamedTuple):
    """Seconds of one step: all of it, and the part that waited for the batch."""

    step: float
    wait: float


def time_steps(trainer: Trainer, batches: Iterator[TrainingBatch], *, settling: int, steps: int) -> list[Timed]:
    """Time steps one by one, after `settling` steps that are not timed."""
    timed = []
    for _ in range(settling + steps):
        began = time.perf_counter()
        batch = next(batches)
        came = time.perf_counter()
        trainer.train_on(batch, progress=0.5)
        if trainer.process.device.type == "cuda":
            torch.cuda.synchronize()
        timed.append(Timed(step=time.perf_counter() - began, wait=came - began))
    return timed[settling:]


def ratio_of_medians(steps: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """The ratio of two sources' median step, and its 95 % bootstrap interval, over blocks and the steps of each.

    Args:
        steps, reference: (blocks, steps) seconds; blocks of the same number stood beside each other.
    """
    random = np.random.default_rng(0)
    blocks, count = steps.shape

    def drawn_ratio() -> float:
        block = random.integers(blocks, size=blocks)[:, None]
        ours, theirs = (values[block, random.integers(count, size=(blocks, count))] for values in (steps, reference))
        return float(np.median(ours) / np.median(theirs))

    ends = np.quantile([drawn_ratio() for _ in range(_RESAMPLES)], [0.025, 0.975])
    return float(np.median(steps) / np.median(reference)), *ends.tolist()


def told(ratio: float, low: float, high: float) -> str:
    """A ratio and its interval, to be read."""
    return f"{ratio:.3f} ({low:.3f} to {high:.3f})"


def measure(options: Options, output: Path) -> dict[str, np.ndarray]:
    """Source to (blocks, steps, 2) seconds: of the step, and of its wait for the batch."""
    settings = TrainSettings(
        training_set=str(options.training_set),
        output=str(output),
        date=dt.date(2000, 1, 1),  # names a model that is not kept
        batch_size=options.batch_size,
        validation_items=1,
        progress_every=1_000_000,  # nothing but the step is timed
        cache_mb=options.cache_mb,
        threads=options.threads,
    )
    torch.set_num_threads(options.threads or os.cpu_count() or 1)
    keep_freed_memory()
    with joined_process() as process:
        trainer = Trainer(settings, process)
        plain = PlainData(
            options.training_set / "train",
            trainer.processor,
            added=trainer.data._added,
            batch_size=options.batch_size,
            shuffle_rows=settings.shuffle_rows,
            group_rows=settings.group_rows,
            seed=settings.seed,
            rank=0,
            world_size=1,
            decode_threads=settings.num_workers,
            cache_bytes=options.cache_mb << 20,
        )
        petastorm = endless(trainer.data)
        kept = list(itertools.islice(petastorm, _KEPT_BATCHES))
        sources = {
            IN_MEMORY: itertools.cycle(kept),
            PETASTORM: petastorm,
            DATA_LOADER: endless(plain),
        }
        if options.cache_mb:  # from the second epoch on photos stay decoded
            for source in (PETASTORM, DATA_LOADER):
                for _ in range(trainer.data.steps_per_epoch):
                    next(sources[source])
        trainer.model.train()
        timed: dict[str, list[list[Timed]]] = {name: [] for name in sources}
        for _ in range(options.rounds):
            for name, batches in sources.items():
                timed[name].append(time_steps(trainer, batches, settling=options.settling, steps=options.steps))
    return {name: np.array(blocks) for name, blocks in timed.items()}


def main(arguments: list[str]) -> None:
    """Measure, and print medians and ratios."""
    options = read_options(Options, arguments)
    with tempfile.TemporaryDirectory() as output:
        timed = measure(options, Path(output))
    print(f"{options.batch_size} products a step, {options.rounds} blocks of {options.steps} steps a source; medians")
    print(f"{'':<12} {'step ms':>10} {'waited ms':>10}  {'to in memory':<22} to DataLoader")
    for name, of_source in timed.items():
        step, wait = np.median(of_source, axis=(0, 1))
        in_memory, plain = (
            "1" if name == other else told(*ratio_of_medians(of_source[..., 0], timed[other][..., 0]))
            for other in (IN_MEMORY, DATA_LOADER)
        )
        print(f"{name:<12} {1000 * step:>10.1f} {1000 * wait:>10.1f}  {in_memory:<22} {plain}")


if __name__ == "__main__":
    main(sys.argv[1:])
