"""Training sets as batches: Petastorm reads, tokenizes and decodes; rows are shuffled, batched and masked here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from petastorm import make_batch_reader
from petastorm.transform import TransformSpec
from torch import Tensor

from models.make.objectives import covering_titles, listed_items, same_product
from models.make.processing_make import MakeProcessor
from models.make.text import PADDING_ID
from models.training.pseudo_queries import PseudoQuery, draw_query

warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\.")  # about old calls to pyarrow

SOURCE_COLUMNS = [
    "query",
    "similar_query",
    "title",
    "photo",
    "item_key",
    "title_key",
    "photo_key",
    "clicked_items",
    "neighbor_items",
]


class Row(NamedTuple):
    """One (query, item) with clicks, or one item with a query made of its title, as Petastorm delivers it.

    Everything of variable length travels as bytes: Petastorm stacks lists, and refuses them when their lengths differ.
    """

    query_tokens: bytes  # int32 (tokens, pieces)
    similar_tokens: bytes  # the same for one similar query; empty without one
    title_tokens: bytes
    pixels: bytes  # uint8 (height, width, 3); empty without a readable photo
    clicked_items: bytes  # int64 item keys that the query's log clicked
    neighbor_items: bytes  # int64 item keys that its similar queries clicked
    item_key: int
    title_key: int
    photo_key: int  # 0 without a photo


@dataclass
class TrainingBatch:
    """What one step reads; shapes as in `MakeModel.forward` and `make_loss`, pixels uint8 (batch, height, width, 3)."""

    query_ids: Tensor
    title_ids: Tensor
    similar_query_ids: Tensor
    pixels: Tensor
    has_image: Tensor
    has_similar: Tensor
    relevant: Tensor
    neighbors: Tensor
    covered: Tensor

    def __len__(self) -> int:
        return len(self.query_ids)

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch on another device."""
        return TrainingBatch(**{name: tensor.to(device, non_blocking=True) for name, tensor in vars(self).items()})


@dataclass(frozen=True)
class SplitSize:
    """What the Parquet footers of a split say."""

    rows: int
    row_groups: int


def split_size(folder: Path) -> SplitSize:
    """Read the footers of a split's files.

    Raises:
        FileNotFoundError: the split has no Parquet file.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise FileNotFoundError(f"{folder}: expected Parquet files of a training set, found none. Build the set again.")
    footers = [pq.read_metadata(path) for path in files]
    return SplitSize(sum(footer.num_rows for footer in footers), sum(footer.num_row_groups for footer in footers))


class RowReader:
    """One epoch of one rank's rows, read ahead by Petastorm in a thread of its own.

    Petastorm shards by row group and keeps its order reproducible with one worker only; so there is one, and the photos
    of a row group are decoded in threads that keep their order.

    Args:
        folder: a split of a training set.
        seed: decides the order of row groups, the order inside each, and the queries made of titles.
        rank, world_size: this process reads row groups rank, rank + world_size, ...
        decode_threads: threads that decode photos.
    """

    def __init__(
        self, folder: Path, processor: MakeProcessor, *, seed: int, rank: int, world_size: int, decode_threads: int
    ) -> None:
        self._processor, self._seed = processor, seed
        self._pool = ThreadPoolExecutor(max_workers=decode_threads, thread_name_prefix="decode")
        self._reader = make_batch_reader(
            folder.absolute().as_uri(),
            schema_fields=[f"^{name}$" for name in SOURCE_COLUMNS],
            reader_pool_type="thread",
            workers_count=1,
            results_queue_size=8,
            shuffle_row_groups=True,
            shuffle_rows=True,
            seed=seed,
            num_epochs=1,
            cur_shard=rank,
            shard_count=world_size,
            transform_spec=TransformSpec(
                self._transform,
                edit_fields=[
                    (name, np.int64 if kind == "int" else np.bytes_, (), False)
                    for name, kind in Row.__annotations__.items()
                ],
                selected_fields=list(Row._fields),
            ),
        )

    def _transform(self, rows: pd.DataFrame) -> pd.DataFrame:
        photos = self._processor.decode_photos(rows["photo"], self._pool)
        readable = np.array([photo is not None for photo in photos])
        texts = [
            PseudoQuery(query, title)
            if query
            else draw_query(title, has_photo=has_photo, seed=self._seed, item_key=item_key)
            for query, title, item_key, has_photo in zip(
                rows["query"], rows["title"], rows["item_key"], readable.tolist(), strict=True
            )
        ]
        similar = self._processor.tokenize_queries(rows["similar_query"])
        return pd.DataFrame(
            {
                "query_tokens": _as_bytes(self._processor.tokenize_queries([text.query for text in texts])),
                "similar_tokens": [
                    tokens.tobytes() if text else b""
                    for tokens, text in zip(similar, rows["similar_query"], strict=True)
                ],
                "title_tokens": _as_bytes(self._processor.tokenize_titles([text.title for text in texts])),
                "pixels": [b"" if photo is None else photo.tobytes() for photo in photos],
                "clicked_items": _as_bytes(rows["clicked_items"]),
                "neighbor_items": _as_bytes(rows["neighbor_items"]),
                "item_key": rows["item_key"].to_numpy(),
                "title_key": rows["title_key"].to_numpy(),
                "photo_key": rows["photo_key"].to_numpy() * readable,
            }
        )

    def __iter__(self) -> Iterator[list[Row]]:
        """The rows, a row group at a time."""
        for group in self._reader:
            columns = [getattr(group, name) for name in Row._fields]
            yield [Row(*values) for values in zip(*columns, strict=True)]

    def close(self) -> None:
        """End the reader's threads, and wait for them."""
        self._reader.stop()
        self._reader.join()
        self._pool.shutdown()


def _as_bytes(arrays: Any) -> list[bytes]:
    return [np.ascontiguousarray(array).tobytes() for array in arrays]


class TrainingData:
    """A training split as epochs of batches, the same number on every rank.

    Args:
        folder: the split.
        batch_size: rows a step and rank; lowered to the rows that a rank has in an epoch when those are fewer.
        shuffle_rows: rows that are mixed with each other; a whole epoch when it has fewer.

    Raises:
        FileNotFoundError: no such split.
        ValueError: fewer row groups than ranks, or a batch of one, which contrasts nothing.
    """

    def __init__(
        self,
        folder: Path,
        processor: MakeProcessor,
        *,
        batch_size: int,
        shuffle_rows: int,
        seed: int,
        rank: int,
        world_size: int,
        decode_threads: int,
    ) -> None:
        self.size = split_size(folder)
        if self.size.row_groups < world_size:
            raise ValueError(
                f"{folder} has {self.size.row_groups} row groups for {world_size} processes: "
                "train with fewer processes, or build the set with smaller row groups."
            )
        self.batch_size = min(batch_size, self.size.rows // world_size)
        if self.batch_size < 2:
            raise ValueError(f"{folder} has {self.size.rows} rows for {world_size} processes: expected 2 a process.")
        self.steps_per_epoch = self.size.rows // (self.batch_size * world_size)
        self._folder, self._processor = folder, processor
        self._shuffle_rows, self._seed = shuffle_rows, seed
        self._rank, self._world_size, self._decode_threads = rank, world_size, decode_threads
        self._opened: tuple[int, RowReader] | None = None
        self.rows_read = 0

    def epoch(self, epoch: int, *, last: bool, skip: int = 0) -> Iterator[TrainingBatch]:
        """Exactly `steps_per_epoch` batches; every row of this rank's shard is read, and counted in `rows_read`.

        Shards differ by up to a row group: rows beyond the fixed number of steps wait for an epoch that draws them, and
        a rank with too few repeats some of its own.

        Args:
            epoch: decides the order of rows.
            last: no epoch follows, so nothing is read ahead for one.
            skip: batches that a killed run has trained on already; they are drawn, and not given again.
        """
        random = np.random.default_rng([self._seed, epoch, self._rank])
        self.rows_read = 0
        buffer: list[Row] = []
        steps = 0
        reader = self._open(epoch)
        for rows in reader:
            self.rows_read += len(rows)
            buffer.extend(rows)
            while len(buffer) >= self._shuffle_rows + self.batch_size and steps < self.steps_per_epoch:
                drawn = _draw(buffer, self.batch_size, random)
                if steps >= skip:
                    yield self._collate(drawn)
                steps += 1
        reader.close()
        self._opened = None
        if not last:
            self._open(epoch + 1)  # reads ahead while the buffer is used up
        spare = list(buffer)
        while steps < self.steps_per_epoch:
            while len(buffer) < self.batch_size:
                buffer.extend(spare)
            drawn = _draw(buffer, self.batch_size, random)
            if steps >= skip:
                yield self._collate(drawn)
            steps += 1

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
                seed=(self._seed * 1_000_003 + epoch) % 2**31,
                rank=self._rank,
                world_size=self._world_size,
                decode_threads=self._decode_threads,
            )
            self._opened = (epoch, reader)
        return self._opened[1]

    def _collate(self, rows: list[Row]) -> TrainingBatch:
        item_keys, title_keys, photo_keys = (
            np.array([getattr(row, name) for row in rows], dtype=np.int64)
            for name in ("item_key", "title_key", "photo_key")
        )
        clicked = listed_items(item_keys, [np.frombuffer(row.clicked_items, dtype=np.int64) for row in rows])
        neighbors = listed_items(item_keys, [np.frombuffer(row.neighbor_items, dtype=np.int64) for row in rows])
        pixels = np.zeros((len(rows), *self._processor.image_size, 3), dtype=np.uint8)
        for place, row in enumerate(rows):
            if row.pixels:
                pixels[place] = np.frombuffer(row.pixels, dtype=np.uint8).reshape(pixels.shape[1:])
        query_ids = self._pad([row.query_tokens for row in rows])
        title_ids = self._pad([row.title_tokens for row in rows])
        return TrainingBatch(
            query_ids=query_ids,
            title_ids=title_ids,
            # Rows without a similar query repeat their own, which `has_similar` keeps out of the loss.
            similar_query_ids=self._pad([row.similar_tokens or row.query_tokens for row in rows]),
            pixels=torch.from_numpy(pixels),
            has_image=torch.tensor([bool(row.pixels) for row in rows]),
            has_similar=torch.tensor([bool(row.similar_tokens) for row in rows]),
            relevant=torch.from_numpy(clicked | same_product(title_keys, photo_keys)),
            neighbors=torch.from_numpy(neighbors),
            covered=torch.from_numpy(covering_titles(query_ids[..., 0].numpy(), title_ids[..., 0].numpy())),
        )

    def _pad(self, tokens: list[bytes]) -> Tensor:
        pieces = self._processor.pieces_per_word
        return self._processor.pad([np.frombuffer(row, dtype=np.int32).reshape(-1, pieces) for row in tokens])


def _draw(buffer: list[Row], count: int, random: np.random.Generator) -> list[Row]:
    """Take `count` rows at random out of the buffer."""
    drawn = []
    for _ in range(count):
        place = int(random.integers(len(buffer)))
        buffer[place], buffer[-1] = buffer[-1], buffer[place]
        drawn.append(buffer.pop())
    return drawn


def drop_modalities(
    batch: TrainingBatch, *, title: float, title_words: float, photo: float, generator: torch.Generator
) -> TrainingBatch:
    """Withhold whole titles, single words of titles, and photos at random, but never both of a product.

    Trained plainly the model reads titles and ignores photos; a title that may be missing makes it look.

    Args:
        title, title_words, photo: shares in 0..1 of what is withheld.
        generator: seeded by step, so that a resumed run withholds the same.
    """

    def chance(shape: tuple[int, ...], share: float) -> Tensor:
        return torch.rand(shape, generator=generator) < share

    words = batch.title_ids[..., 0] != PADDING_ID
    words[:, 0] = False  # [CLS] stays
    whole_title = chance((len(batch), 1), title)
    dropped = words & (chance(tuple(words.shape), title_words) | whole_title)
    emptied = ~(words & ~dropped).any(dim=1)
    dropped &= (batch.has_image | ~emptied)[:, None]
    with_photo = batch.has_image & (emptied | ~chance((len(batch),), photo))
    return replace(batch, title_ids=batch.title_ids.masked_fill(dropped[..., None], PADDING_ID), has_image=with_photo)
