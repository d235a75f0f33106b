"""Training sets as batches: Petastorm reads, tokenizes and decodes; rows are shuffled, batched and masked here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
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

from models.make.objectives import QueryKind, covering_titles, listed_items, same_product
from models.make.processing_make import MakeProcessor
from models.make.text import PADDING_ID
from models.training.pseudo_queries import draw_queries

warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\.")  # about old calls to pyarrow

SOURCE_COLUMNS = [
    "queries",
    "similar_queries",
    "clicked_items",
    "clicked_counts",
    "neighbor_items",
    "neighbor_counts",
    "title",
    "photo",
    "item_key",
    "title_key",
    "photo_key",
]


class Query(NamedTuple):
    """One query of a product, and what the log says is relevant to it."""

    text: str
    kind: QueryKind
    clicked_items: np.ndarray  # int64 item keys that the query's log clicked
    neighbor_items: np.ndarray  # int64 item keys that its similar queries clicked


class Row(NamedTuple):
    """A product and its queries, as Petastorm delivers it.

    Everything of variable length travels as bytes: Petastorm stacks lists, and refuses them when their lengths differ.
    What belongs to several queries lies one after the other, and a `counts` says how much of it is whose.
    """

    query_tokens: bytes  # int32 (tokens, pieces)
    query_counts: bytes  # int32 (queries,)
    query_kinds: bytes  # int64 (queries,) of QueryKind
    clicked_items: bytes  # int64
    clicked_counts: bytes  # int32 (queries,)
    neighbor_items: bytes  # int64
    neighbor_counts: bytes  # int32 (queries,)
    title_tokens: bytes  # int32 (tokens, pieces), of the title that the model reads
    title_words: bytes  # int32 ids of the words of the whole title
    pixels: bytes  # uint8 (height, width, 3); empty without a readable photo
    item_key: int
    title_key: int
    photo_key: int  # 0 without a photo


@dataclass
class TrainingBatch:
    """What one step reads; shapes as in `MakeModel.forward` and `make_loss`, pixels uint8 (items, height, width, 3)."""

    query_ids: Tensor
    item_of: Tensor
    kinds: Tensor
    title_ids: Tensor
    pixels: Tensor
    has_image: Tensor
    relevant: Tensor
    neighbors: Tensor
    covered: Tensor

    def __len__(self) -> int:
        return len(self.title_ids)

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


@dataclass(frozen=True)
class AddedQueries:
    """Queries of a product beside those whose clicks led to it.

    Attributes:
        of_title: how many are made of its title.
        similar: whether a neighbour of each of the log's queries is one too.
    """

    of_title: int
    similar: bool


class DecodedPhotos:
    """Decodes photos, and keeps them for the epochs to come as long as memory is granted.

    Args:
        max_bytes: of pixels kept; photos beyond it are decoded in every epoch.
    """

    def __init__(self, processor: MakeProcessor, *, max_bytes: int) -> None:
        self._processor, self._room = processor, max_bytes
        self._kept: dict[int, np.ndarray | None] = {}

    def decode(self, photos: Sequence[bytes], keys: Sequence[int], pool: ThreadPoolExecutor) -> list[np.ndarray | None]:
        """As `MakeProcessor.decode_photos`; `keys` tell different photos apart, 0 is no photo."""
        new = {key: photo for key, photo in zip(keys, photos, strict=True) if key and key not in self._kept}
        pixels = dict(zip(new, self._processor.decode_photos(list(new.values()), pool), strict=True))
        found = [None if key == 0 else pixels[key] if key in pixels else self._kept[key] for key in keys]
        for key, photo in pixels.items():
            size = 0 if photo is None else photo.nbytes
            if size <= self._room:
                self._kept[key] = photo
                self._room -= size
        return found


class RowReader:
    """One epoch of one rank's rows, read ahead by Petastorm in a thread of its own.

    Petastorm shards by row group and keeps its order reproducible with one worker only; so there is one, and the photos
    of a row group are decoded in threads that keep their order.

    Args:
        folder: a split of a training set.
        added: queries that the rows do not hold.
        photos: decodes, and may hold what an earlier epoch has decoded.
        seed: decides the order of row groups, the order inside each, and the queries made of titles.
        rank, world_size: this process reads row groups rank, rank + world_size, ...
        decode_threads: threads that decode photos.
    """

    def __init__(
        self,
        folder: Path,
        processor: MakeProcessor,
        *,
        added: AddedQueries,
        photos: DecodedPhotos,
        seed: int,
        rank: int,
        world_size: int,
        decode_threads: int,
    ) -> None:
        self._processor, self._added, self._photos, self._seed = processor, added, photos, seed
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
        photos = self._photos.decode(rows["photo"].tolist(), rows["photo_key"].tolist(), self._pool)
        asked, titles = [], []
        for row, photo in zip(rows.itertuples(), photos, strict=True):
            made = draw_queries(
                row.title,
                count=self._added.of_title,
                # What the log asks for keeps its whole title, in which its shoppers' words are to be found.
                withhold=photo is not None and len(row.queries) == 0,
                seed=self._seed,
                item_key=row.item_key,
            )
            asked.append([*_queries_of_log(row, similar=self._added.similar), *map(_query_of_title, made.queries)])
            titles.append(made.title)
        tokens = iter(self._processor.tokenize_queries([query.text for queries in asked for query in queries]))
        query_tokens = [[next(tokens) for _ in queries] for queries in asked]
        clicked, neighbors = ([[query[place] for query in queries] for queries in asked] for place in (2, 3))
        whole_titles = self._processor.tokenize_titles(rows["title"].tolist())
        read_titles = [
            whole if title == shown else self._processor.tokenize_titles([shown])[0]
            for whole, title, shown in zip(whole_titles, rows["title"], titles, strict=True)
        ]
        return pd.DataFrame(
            {
                **_ragged("query_tokens", "query_counts", query_tokens),
                "query_kinds": [np.array([query.kind for query in queries], np.int64).tobytes() for queries in asked],
                **_ragged("clicked_items", "clicked_counts", clicked),
                **_ragged("neighbor_items", "neighbor_counts", neighbors),
                "title_tokens": [title.tobytes() for title in read_titles],
                "title_words": [title[:, 0].tobytes() for title in whole_titles],
                "pixels": [b"" if photo is None else photo.tobytes() for photo in photos],
                "item_key": rows["item_key"].to_numpy(),
                "title_key": rows["title_key"].to_numpy(),
                "photo_key": rows["photo_key"].to_numpy() * np.array([photo is not None for photo in photos]),
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


def _queries_of_log(row: Any, *, similar: bool) -> Iterator[Query]:
    """The queries that a row of the training set holds, each followed by its neighbour where that is wanted."""
    clicked = _split(row.clicked_items, row.clicked_counts)
    near = _split(row.neighbor_items, row.neighbor_counts)
    for text, neighbor, clicked_items, neighbor_items in zip(
        row.queries, row.similar_queries, clicked, near, strict=True
    ):
        yield Query(text, QueryKind.CLICKED, clicked_items, neighbor_items)
        if similar and neighbor:
            # The neighbour's own clicks are among the neighbors': relevant is what either of the two led to.
            yield Query(neighbor, QueryKind.SIMILAR, np.concatenate([clicked_items, neighbor_items]), _NO_ITEMS)


def _query_of_title(text: str) -> Query:
    return Query(text, QueryKind.OF_TITLE, _NO_ITEMS, _NO_ITEMS)


_NO_ITEMS = np.zeros(0, np.int64)


def _ragged(values: str, counts: str, rows: list[list[np.ndarray]]) -> dict[str, list[bytes]]:
    """Arrays of unequal length, several a row, as the two columns of that name that `_split` takes apart."""
    return {
        values: [b"".join(np.ascontiguousarray(part).tobytes() for part in row) for row in rows],
        counts: [np.array([len(part) for part in row], np.int32).tobytes() for row in rows],
    }


def _split(values: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Take `counts[0]` values, then `counts[1]`, and so on."""
    parts, start = [], 0
    for count in counts.tolist():
        parts.append(values[start : start + count])
        start += count
    return parts


class TrainingData:
    """A training split as epochs of batches, the same number on every rank.

    Args:
        folder: the split.
        added: queries that the rows do not hold.
        batch_size: rows a step and rank; lowered to the rows that a rank has in an epoch when those are fewer.
        shuffle_rows: rows that are mixed with each other; a whole epoch when it has fewer.
        photo_memory: bytes of decoded photos that are kept from epoch to epoch.

    Raises:
        FileNotFoundError: no such split.
        ValueError: fewer row groups than ranks, or a batch of one, which contrasts nothing.
    """

    def __init__(
        self,
        folder: Path,
        processor: MakeProcessor,
        *,
        added: AddedQueries,
        batch_size: int,
        shuffle_rows: int,
        seed: int,
        rank: int,
        world_size: int,
        decode_threads: int,
        photo_memory: int,
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
        self._folder, self._processor, self._added = folder, processor, added
        self._photos = DecodedPhotos(processor, max_bytes=photo_memory)
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
                added=self._added,
                photos=self._photos,
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
        pieces = self._processor.pieces_per_word
        query_tokens, clicked_items, neighbor_items = [], [], []
        for row in rows:
            tokens = np.frombuffer(row.query_tokens, np.int32).reshape(-1, pieces)
            query_tokens += _split(tokens, np.frombuffer(row.query_counts, np.int32))
            clicked_items += _split_items(row.clicked_items, row.clicked_counts)
            neighbor_items += _split_items(row.neighbor_items, row.neighbor_counts)
        kinds = [np.frombuffer(row.query_kinds, np.int64) for row in rows]
        item_of = np.repeat(np.arange(len(rows)), [len(of_row) for of_row in kinds])
        query_ids = self._processor.pad(query_tokens)
        title_ids = self._processor.pad([np.frombuffer(row.title_tokens, np.int32).reshape(-1, pieces) for row in rows])
        title_words = self._processor.pad([np.frombuffer(row.title_words, np.int32)[:, None] for row in rows])
        pixels = np.zeros((len(rows), *self._processor.image_size, 3), dtype=np.uint8)
        for place, row in enumerate(rows):
            if row.pixels:
                pixels[place] = np.frombuffer(row.pixels, dtype=np.uint8).reshape(pixels.shape[1:])
        clicked = listed_items(item_keys, clicked_items)
        covered = covering_titles(query_ids[..., 0].numpy(), title_words[..., 0].numpy())
        return TrainingBatch(
            query_ids=query_ids,
            item_of=torch.from_numpy(item_of),
            kinds=torch.from_numpy(np.concatenate(kinds)),
            title_ids=title_ids,
            pixels=torch.from_numpy(pixels),
            has_image=torch.tensor([bool(row.pixels) for row in rows]),
            relevant=torch.from_numpy(clicked | same_product(title_keys, photo_keys)[item_of]),
            neighbors=torch.from_numpy(listed_items(item_keys, neighbor_items)),
            covered=torch.from_numpy(covered),
        )


def _split_items(items: bytes, counts: bytes) -> list[np.ndarray]:
    return _split(np.frombuffer(items, np.int64), np.frombuffer(counts, np.int32))


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
