"""Training sets as batches: the rows that a reader gives are shuffled, batched and masked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor
from upath import UPath

from models.make.objectives import ItemFacts, QueryFacts, QueryKind, TrainingBatch, pair_masks
from models.make.processing_make import MakeProcessor
from models.training.mixing import MixingBuffer
from models.training.prepared import PreparedInputs
from models.training.reader import AddedQueries, Row, RowReader, split_ragged

# Rows of a batch, at least: one alone would be contrasted with nothing.
_FEWEST_ROWS = 2


@dataclass(frozen=True)
class SplitSize:
    """What the Parquet footers of a split say."""

    rows: int
    row_groups: int


def split_size(folder: Path | UPath) -> SplitSize:
    """Read the footers of a split's files.

    Raises:
        FileNotFoundError: the split has no Parquet file.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise FileNotFoundError(f"{folder}: expected Parquet files of a training set, found none. Build the set again.")
    footers = [_footer(path) for path in files]
    return SplitSize(sum(footer.num_rows for footer in footers), sum(footer.num_row_groups for footer in footers))


def _footer(path: Path | UPath) -> pq.FileMetaData:
    with path.open("rb") as file:
        return pq.read_metadata(file)


class TrainingData:
    """A training split as epochs of batches, the same number on every rank.

    Args:
        folder: the split.
        added: queries that the rows do not hold.
        batch_size: rows a step and rank; an epoch has as many steps as batches of this size hold all rows.
        shuffle_rows: rows that are mixed with each other; a whole epoch when it has fewer.
        group_rows: rows with a word in common that are drawn together, at most; 1 draws single rows.
        cache_bytes: of decoded photos and of tokens, which are kept from epoch to epoch.

    Raises:
        FileNotFoundError: no such split.
        ValueError: fewer row groups than ranks, or fewer than two rows a rank.
    """

    def __init__(
        self,
        folder: Path | UPath,
        processor: MakeProcessor,
        *,
        added: AddedQueries,
        batch_size: int,
        shuffle_rows: int,
        group_rows: int,
        seed: int,
        rank: int,
        world_size: int,
        decode_threads: int,
        cache_bytes: int,
    ) -> None:
        self.size = split_size(folder)
        if self.size.row_groups < world_size:
            raise ValueError(
                f"{folder} has {self.size.row_groups} row groups for {world_size} processes: "
                "train with fewer processes, or build the set with smaller row groups."
            )
        if self.size.rows < _FEWEST_ROWS * world_size:
            raise ValueError(f"{folder} has {self.size.rows} rows for {world_size} processes: expected 2 a process.")
        self.steps_per_epoch = math.ceil(self.size.rows / (batch_size * world_size))
        self._batch_size = batch_size
        self._folder, self._processor, self._added = folder, processor, added
        self._prepared = PreparedInputs(processor, max_bytes=cache_bytes)
        self._shuffle_rows, self._group_rows, self._seed = shuffle_rows, group_rows, seed
        self._rank, self._world_size, self._decode_threads = rank, world_size, decode_threads
        self._opened: tuple[int, RowReader] | None = None
        self.rows_read = 0

    def epoch(self, epoch: int, *, last: bool, skip: int = 0) -> Iterator[TrainingBatch]:
        """Exactly `steps_per_epoch` batches, which hold every row of this rank's shard once; `rows_read` counts them.

        While rows come in, batches are full.  When all are read, those that wait are dealt out evenly over the steps
        that are left, so that none is left over and none stands in a batch too small to contrast it; a shard may be
        larger than another by a row group, and these batches with it.

        Args:
            epoch: decides the order of rows.
            last: no epoch follows, so nothing is read ahead for one.
            skip: batches of it that a killed run has trained on already; they are drawn, and not given again.
        """
        return map(self._collate, islice(self._draw_batches(epoch, last=last), skip, None))

    def _draw_batches(self, epoch: int, *, last: bool) -> Iterator[list[Row]]:
        buffer = MixingBuffer(self._group_rows, np.random.default_rng([self._seed, epoch, self._rank]))
        self.rows_read = 0
        steps_left = self.steps_per_epoch
        reader = self._open(epoch)
        for rows in reader:
            self.rows_read += len(rows)
            buffer.extend(rows)
            while len(buffer) >= self._shuffle_rows + self._batch_size and steps_left > 1:
                yield buffer.draw(self._batch_size)
                steps_left -= 1
        reader.close()
        self._opened = None
        if not last:
            self._open(epoch + 1)  # reads ahead while the buffer is used up
        spare = buffer.rows()
        for left in range(steps_left, 0, -1):
            count = max(_FEWEST_ROWS, len(buffer) // left)
            while len(buffer) < count:  # a shard of very few rows has to repeat some
                buffer.extend(spare)
            yield buffer.draw(count)

    def close(self) -> None:
        """End what reads ahead."""
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    def _open(self, epoch: int) -> RowReader:
        if self._opened is None or self._opened[0] != epoch:
            self.close()
            reader = RowReader(
                self._folder,
                self._processor,
                added=self._added,
                prepared=self._prepared,
                seed=(self._seed * 1_000_003 + epoch) % 2**31,
                rank=self._rank,
                world_size=self._world_size,
                decode_threads=self._decode_threads,
            )
            self._opened = (epoch, reader)
        return self._opened[1]

    def _collate(self, rows: list[Row]) -> TrainingBatch:
        item_keys, title_keys, photo_keys = (
            torch.tensor([getattr(row, name) for row in rows]) for name in ("item_key", "title_key", "photo_key")
        )
        pad, pieces = self._processor.pad, self._processor.pieces_per_word
        query_tokens = []
        for row in rows:
            tokens = np.frombuffer(row.query_tokens, np.int32).reshape(-1, pieces)
            query_tokens += split_ragged(tokens, np.frombuffer(row.query_counts, np.int32))
        kinds_of_rows = [np.frombuffer(row.query_kinds, np.int64) for row in rows]
        kinds = torch.from_numpy(np.concatenate(kinds_of_rows))
        item_of = torch.from_numpy(np.repeat(np.arange(len(rows)), [len(kinds) for kinds in kinds_of_rows]))
        query_ids = pad(query_tokens)
        title_ids = pad([np.frombuffer(row.title_tokens, np.int32).reshape(-1, pieces) for row in rows])
        pixels = np.zeros((len(rows), *self._processor.image_size, 3), dtype=np.uint8)
        for place, row in enumerate(rows):
            if row.pixels:
                pixels[place] = np.frombuffer(row.pixels, dtype=np.uint8).reshape(pixels.shape[1:])
        of_log = kinds != QueryKind.OF_TITLE
        items = ItemFacts(item_keys, title_keys, photo_keys, item_of[of_log].bincount(minlength=len(rows)))
        queries = QueryFacts(
            title_keys=title_keys[item_of],
            photo_keys=photo_keys[item_of],
            of_log=of_log,
            clicked_items=_joined(rows, "clicked_items", np.int64),
            clicked_counts=_joined(rows, "clicked_counts", np.int32),
            neighbor_items=_joined(rows, "neighbor_items", np.int64),
            neighbor_counts=_joined(rows, "neighbor_counts", np.int32),
        )
        return TrainingBatch(
            query_ids=query_ids,
            item_of=item_of,
            kinds=kinds,
            title_ids=title_ids,
            title_shown=self._processor.is_word(title_ids),
            pixels=torch.from_numpy(pixels),
            has_image=torch.tensor([bool(row.pixels) for row in rows]),
            masks=pair_masks(queries, items),
            queries=queries,
            items=items,
        )


def _joined(rows: list[Row], name: str, kind: type[np.integer]) -> Tensor:
    """What the rows hold under a name, one after the other, as int64."""
    return torch.from_numpy(np.frombuffer(b"".join(getattr(row, name) for row in rows), kind).astype(np.int64))
