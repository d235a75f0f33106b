"""The rows of a training set: Petastorm reads them, tokenizes their texts and decodes their photos."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, get_type_hints
from urllib.parse import unquote

import numpy as np
import pandas as pd
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from petastorm import make_batch_reader
from petastorm.transform import TransformSpec
from pyarrow.filesystem import DaskFileSystem
from upath import UPath

from models.make.objectives import QueryKind
from models.make.processing_make import MakeProcessor
from models.training.prepared import PreparedInputs
from models.training.pseudo_queries import PseudoQuery, draw_queries, product_terms

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
    pixels: bytes  # uint8 (height, width, 3); empty without a readable photo
    item_key: int
    title_key: int
    photo_key: int  # 0 without a photo
    term_key: int  # of one of its words, another in every epoch


@dataclass(frozen=True)
class AddedQueries:
    """Queries of a product beside those whose clicks led to it.

    Attributes:
        pseudo: how many are made of its own words.
        typos: share of those that are mistyped.
        similar: whether a neighbour of each of the log's queries is one too.
    """

    pseudo: int
    typos: float
    similar: bool


class RowTransform:
    """What becomes of the rows of a row group: queries are made, texts tokenized, photos decoded.

    Args:
        added: queries that the rows do not hold.
        prepared: photos and texts, which an earlier epoch may have prepared.
        seed: decides the queries made of titles.
        pool: threads that decode photos.
    """

    def __init__(
        self,
        processor: MakeProcessor,
        *,
        added: AddedQueries,
        prepared: PreparedInputs,
        seed: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._processor, self._added, self._prepared, self._seed = processor, added, prepared, seed
        self._pool = pool

    def __call__(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The columns of a split as a frame, to the fields of `Row` as columns."""
        photos = self._prepared.photos(rows["photo"].tolist(), rows["photo_key"].tolist(), self._pool)
        asked, titles, term_keys = [], [], []
        for row, photo in zip(rows.itertuples(), photos, strict=True):
            made = draw_queries(
                row.title,
                product_terms(row.title, row.queries),
                count=self._added.pseudo,
                typos=self._added.typos,
                # What the log asks for keeps its whole title, in which its shoppers' words are to be found.
                withhold=photo is not None and len(row.queries) == 0,
                seed=self._seed,
                item_key=row.item_key,
            )
            asked.append([*_queries_of_log(row, similar=self._added.similar), *map(_of_pseudo, made.queries)])
            titles.append(made.title)
            term_keys.append(made.term_key)
        query_tokens = self._tokenize_queries(asked)
        clicked, neighbors = ([[query[place] for query in queries] for queries in asked] for place in (2, 3))
        return pd.DataFrame(
            {
                **_ragged("query_tokens", "query_counts", query_tokens),
                "query_kinds": [np.array([query.kind for query in queries], np.int64).tobytes() for queries in asked],
                **_ragged("clicked_items", "clicked_counts", clicked),
                **_ragged("neighbor_items", "neighbor_counts", neighbors),
                "title_tokens": [tokens.tobytes() for tokens in self._tokenize_titles(titles, rows["title"].tolist())],
                "pixels": [b"" if photo is None else photo.tobytes() for photo in photos],
                "item_key": rows["item_key"].to_numpy(),
                "title_key": rows["title_key"].to_numpy(),
                "photo_key": rows["photo_key"].to_numpy() * np.array([photo is not None for photo in photos]),
                "term_key": term_keys,
            }
        )

    def _tokenize_queries(self, asked: list[list[Query]]) -> list[list[np.ndarray]]:
        """The tokens of each row's queries; made ones are new in every epoch, and so not kept."""
        of_log = [query.text for queries in asked for query in queries if query.kind not in _MADE]
        made = [query.text for queries in asked for query in queries if query.kind in _MADE]
        kept, new = iter(self._prepared.query_tokens(of_log)), iter(self._processor.tokenize_queries(made))
        return [[next(new if query.kind in _MADE else kept) for query in queries] for queries in asked]

    def _tokenize_titles(self, shown: list[str], whole: list[str]) -> list[np.ndarray]:
        """The tokens of each title as it is shown; of whole ones they are kept."""
        pairs = list(zip(shown, whole, strict=True))
        kept = iter(self._prepared.title_tokens([title for title, of_row in pairs if title == of_row]))
        new = iter(self._processor.tokenize_titles([title for title, of_row in pairs if title != of_row]))
        return [next(kept if title == of_row else new) for title, of_row in pairs]


class _RemoteFiles(DaskFileSystem):
    """Files that fsspec opens, as Petastorm asks for them: through pyarrow's interface of before 2020."""

    def __init__(self, fs: AbstractFileSystem) -> None:
        self.fs = fs  # and no warning, which is all that is left out here

    @classmethod
    def of(cls, folder: Path | UPath) -> Self | None:
        """The filesystem of a folder; None for one of this machine, which Petastorm opens faster itself."""
        uri = folder.absolute().as_uri()
        # Opened anew: the path's own filesystem may be of the process that this one was forked from.
        return None if uri.startswith("file:") else cls(url_to_fs(unquote(uri))[0])

    def isdir(self, path: str) -> bool:
        return self.fs.isdir(path)

    def isfile(self, path: str) -> bool:
        return self.fs.isfile(path)


class RowReader:
    """One epoch of one rank's rows, read ahead by Petastorm in a thread of its own.

    Petastorm shards by row group and keeps its order reproducible with one worker only; so there is one, and the photos
    of a row group are decoded in threads that keep their order.

    Args:
        folder: a split of a training set.
        added: queries that the rows do not hold.
        prepared: photos and texts, which an earlier epoch may have prepared.
        seed: decides the order of row groups, the order inside each, and the queries made of titles.
        rank, world_size: this process reads row groups rank, rank + world_size, ...
        decode_threads: threads that decode photos.
    """

    def __init__(
        self,
        folder: Path | UPath,
        processor: MakeProcessor,
        *,
        added: AddedQueries,
        prepared: PreparedInputs,
        seed: int,
        rank: int,
        world_size: int,
        decode_threads: int,
    ) -> None:
        self._pool = ThreadPoolExecutor(max_workers=decode_threads, thread_name_prefix="decode")
        self._reader = make_batch_reader(
            unquote(folder.absolute().as_uri()),
            filesystem=_RemoteFiles.of(folder),
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
                RowTransform(processor, added=added, prepared=prepared, seed=seed, pool=self._pool),
                edit_fields=[
                    (name, np.int64 if kind is int else np.bytes_, (), False)
                    for name, kind in get_type_hints(Row).items()
                ],
                selected_fields=list(Row._fields),
            ),
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
    clicked = split_ragged(row.clicked_items, row.clicked_counts)
    near = split_ragged(row.neighbor_items, row.neighbor_counts)
    for text, neighbor, clicked_items, neighbor_items in zip(
        row.queries, row.similar_queries, clicked, near, strict=True
    ):
        yield Query(text, QueryKind.CLICKED, clicked_items, neighbor_items)
        if similar and neighbor:
            # The neighbour's own clicks are among the neighbors': relevant is what either of the two led to.
            yield Query(neighbor, QueryKind.SIMILAR, np.concatenate([clicked_items, neighbor_items]), _NO_ITEMS)


def _of_pseudo(made: PseudoQuery) -> Query:
    return Query(made.text, QueryKind.OF_TITLE if made.of_title else QueryKind.OF_CLICKS, _NO_ITEMS, _NO_ITEMS)


_MADE = (QueryKind.OF_TITLE, QueryKind.OF_CLICKS)
_NO_ITEMS = np.zeros(0, np.int64)


def _ragged(values: str, counts: str, rows: list[list[np.ndarray]]) -> dict[str, list[bytes]]:
    """Arrays of unequal length, several a row, as the two columns of that name that `split_ragged` takes apart."""
    return {
        values: [b"".join(np.ascontiguousarray(part).tobytes() for part in row) for row in rows],
        counts: [np.array([len(part) for part in row], np.int32).tobytes() for row in rows],
    }


def split_ragged(values: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Take `counts[0]` values, then `counts[1]`, and so on."""
    parts, start = [], 0
    for count in counts.tolist():
        parts.append(values[start : start + count])
        start += count
    return parts
