"""Batches made ahead of the steps that train on them, in a process of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch.utils.data import DataLoader, IterableDataset

from models.make.objectives import TrainingBatch
from models.training.data import TrainingData

# Batches that lie ready in shared memory.
_AHEAD = 3


class EpochEnd(NamedTuple):
    """What follows the batches of an epoch.

    Attributes:
        rows_read: rows that the reader delivered in it.
    """

    rows_read: int


class _Epochs(IterableDataset):
    """The batches of all epochs that are left, each epoch's followed by its end."""

    def __init__(self, data: TrainingData, *, first: int, skip: int, epochs: int) -> None:
        self._data, self._first, self._skip, self._epochs = data, first, skip, epochs

    def __iter__(self) -> Iterator[TrainingBatch | EpochEnd]:
        try:
            for epoch in range(self._first, self._epochs):
                skip = self._skip if epoch == self._first else 0
                yield from self._data.epoch(epoch, last=epoch + 1 == self._epochs, skip=skip)
                yield EpochEnd(self._data.rows_read)
        finally:
            self._data.close()


class BatchLoader:
    """Epochs of batches, which another process reads, decodes and collates.

    Reading is Python for the most part, as is the launching of a step's operations: in one process the two would take
    turns at the interpreter's lock.  Batches cross in shared memory (/dev/shm), which has to hold a few.

    Args:
        data: reads in the other process only; nothing may have been read from it.
        first: the epoch to begin with.
        skip: batches of it that a killed run has trained on already.
        epochs: where they end.
    """

    def __init__(self, data: TrainingData, *, first: int, skip: int, epochs: int) -> None:
        stream = _Epochs(data, first=first, skip=skip, epochs=epochs)
        # Forked, the process needs no second import of torch; it computes on the CPU and in one thread.
        loader = DataLoader(
            stream, batch_size=None, num_workers=1, prefetch_factor=_AHEAD, multiprocessing_context="fork"
        )
        self._batches = iter(loader)
        self.rows_read = 0

    def epoch(self) -> Iterator[TrainingBatch]:
        """The next epoch, as `TrainingData.epoch` gives it; afterwards `rows_read` are its rows."""
        for batch in self._batches:
            if isinstance(batch, EpochEnd):
                self.rows_read = batch.rows_read
                return
            yield batch

    def close(self) -> None:
        """End the other process, in the midst of an epoch too."""
        self._batches = iter(())
