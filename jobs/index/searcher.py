"""Search a build: FAISS, numpy and Parquet only, so that it runs in a task, a service or a notebook alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.index.choosing import EXACT_BELOW
from jobs.index.local_files import local_files
from jobs.index.manifest import BuildIntegrityError, Current, Effort, Manifest
from jobs.index.shard import iterate_items, vectors_of, verify_pairing
from jobs.index.shard_index import Candidates, NearLists, ShardIndex, list_sizes

# Of the lists that hold something allowed, a search under conditions reads one in so many at least.
_FAR_LISTS = 8


@dataclass(frozen=True)
class Neighbours:
    """The best rows of each query, best first.

    Args:
        scores: (queries, k) float32 inner products; -inf where there are fewer than k.
        rows: (queries, k) int64 rows of the build; -1 where there are fewer than k.
    """

    scores: np.ndarray
    rows: np.ndarray


class Searcher:
    """A build opened for search.  A row of a build is a position in the concatenation of its shards.

    Args:
        manifest: What the build is.
        files: Where on this machine each of its files lies, by name; their digests were checked.

    Example:
        searcher = Searcher.published("/data/lake/indexes")
        found = searcher.search(encoder.embed_queries(["red dress"]), k=10)
        searcher.items(["item_id", "title"]).take(found.rows[0])
    """

    def __init__(self, manifest: Manifest, files: Mapping[str, str]) -> None:
        self.manifest = manifest
        self._files = files
        # Both kinds of file stay open, so that this goes on when the build's folder is removed.
        self._shards = [ShardIndex.open(files[shard.file]) for shard in manifest.shards]
        self._items = [pa.memory_map(files[shard.items_file]) for shard in manifest.shards]
        self._starts = np.cumsum([0, *(shard.rows for shard in manifest.shards)])

    @classmethod
    def open(cls, folder: str) -> Self:
        """Open a build's folder (a path or URL).

        Raises:
            BuildIntegrityError: A file is missing or differs from its digest; no such file is opened.
        """
        manifest = Manifest.read(folder)
        return cls(manifest, local_files(folder, manifest.digests))

    @classmethod
    def published(cls, indexes: str) -> Self:
        """Open the published build, as `CURRENT` in the folder of all builds (a path or URL) names it.

        Raises:
            BuildIntegrityError: Nothing is published, or its files differ from what was.
        """
        current = Current.read(indexes)
        searcher = cls.open(f"{indexes}/{current.build_id}")
        if Current.of(searcher.manifest) != current:
            raise BuildIntegrityError(
                f"{indexes}/{current.build_id}: its manifest is not the one that was published; publish another build"
            )
        return searcher

    def __len__(self) -> int:
        return int(self._starts[-1])

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        exact: bool = False,
        only: np.ndarray | None = None,
        effort: Effort | None = None,
    ) -> Neighbours:
        """The k rows with the highest inner product, over all shards.

        Args:
            queries: (queries, dimension) float32.
            k: At least 1.
            exact: Compare with every vector instead of asking the index.
            only: (rows,) bool, the rows that may be found; None: all.  Where few may, the answer is exact: all of them
                are compared, since the lists that a query is near to may hold none.
            effort: How hard to search, instead of as hard as the build says.

        Raises:
            ValueError: The queries have another dimension, or `only` another length, than the build.
        """
        if queries.ndim != 2 or queries.shape[1] != self.manifest.dimension:
            raise ValueError(
                f"{self.manifest.build_id}: expected queries of shape (n, {self.manifest.dimension}), "
                f"got {queries.shape}; encode them with {self.manifest.model_version}"
            )
        if only is not None and only.shape != (len(self),):
            raise ValueError(f"{self.manifest.build_id}: expected only of shape ({len(self)},), got {only.shape}")
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        parts = self._search_exactly(queries, k, only) if exact else self._search_shards(queries, k, only, effort)
        best = Neighbours(np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64))
        with _threads_for(len(queries)):
            for start, found in parts:
                best = _merged(
                    best, Neighbours(found.scores, np.where(found.positions >= 0, found.positions + start, -1)), k
                )
        return _filled_up(best, k)

    def search_like(
        self, rows: np.ndarray, k: int, *, exact: bool = False, only: np.ndarray | None = None
    ) -> Neighbours:
        """The k rows most like each of these rows, itself left out; arguments as of `search`."""
        # One more is found and taken out: a condition that all but one meet would be searched as a condition.
        found = self.search(self.vectors(rows), k + 1, exact=exact, only=only)
        is_own = found.rows == rows[:, None]
        is_own[~is_own.any(axis=1), -1] = True
        return Neighbours(found.scores[~is_own].reshape(-1, k), found.rows[~is_own].reshape(-1, k))

    def _search_shards(
        self, queries: np.ndarray, k: int, only: np.ndarray | None, effort: Effort | None
    ) -> Iterator[tuple[int, Candidates]]:
        effort = effort or self.manifest.effort
        allowed = len(self) if only is None else np.count_nonzero(only)
        if allowed == len(self):
            near = self._shards[0].near_lists(queries, effort.nprobe)
            for start, shard in zip(self._starts, self._shards, strict=False):
                yield start, shard.search(queries, k, effort, near, None)
        elif allowed < EXACT_BELOW or self._shards[0].is_graph:
            yield from self._search_few(queries, k, only)
        else:
            near = self._near_lists_among(queries, effort.nprobe, only)
            for start, shard, of_shard in self._allowed_shards(only):
                yield start, shard.search(queries, k, effort, near, of_shard)

    def _near_lists_among(self, queries: np.ndarray, nprobe: int, only: np.ndarray) -> NearLists | None:
        """The nearest of the lists that hold something allowed, the more the less of what they hold is."""
        if self._shards[0].lists is None:
            return None
        allowed = np.sum([shard.in_lists(of_shard) for _, shard, of_shard in self._allowed_shards(only)], axis=0)
        among = np.flatnonzero(allowed)
        share = allowed.sum() / self._list_sizes[among].sum()
        # What is allowed may lie far from a query, in many lists that are about equally far.
        enough = max(math.ceil(nprobe / share), len(among) // _FAR_LISTS)
        return self._shards[0].near_lists(queries, enough, among)

    @cached_property
    def _list_sizes(self) -> np.ndarray:
        return np.sum([list_sizes(shard.whole) for shard in self._shards], axis=0)

    def _allowed_shards(self, only: np.ndarray) -> Iterator[tuple[int, ShardIndex, np.ndarray]]:
        """Where each shard begins that has rows which may be found, the shard, and which of its positions these are."""
        for start, end, shard in zip(self._starts, self._starts[1:], self._shards, strict=False):
            if only[start:end].any():
                yield start, shard, only[start:end]

    def _search_few(self, queries: np.ndarray, k: int, only: np.ndarray) -> Iterator[tuple[int, Candidates]]:
        for start, shard, of_shard in self._allowed_shards(only):
            yield start, shard.search_among(queries, k, np.flatnonzero(of_shard))

    def _search_exactly(self, queries: np.ndarray, k: int, only: np.ndarray | None) -> Iterator[tuple[int, Candidates]]:
        for start, vectors in self.iterate_vectors():
            allowed = np.arange(len(vectors)) if only is None else np.flatnonzero(only[start : start + len(vectors)])
            if len(allowed):
                among = vectors if only is None else vectors[allowed]
                scores, places = faiss.knn(queries, among, min(k, len(allowed)), faiss.METRIC_INNER_PRODUCT)
                yield start, Candidates(scores, allowed[places])

    def iterate_vectors(self) -> Iterator[tuple[int, np.ndarray]]:
        """Every vector, as stored beside the index: (first row, (rows, dimension) float32), batch by batch."""
        for start, items in zip(self._starts, self._items, strict=False):
            for batch in iterate_items(items, ["embedding"]):
                yield start, vectors_of(batch)
                start += batch.num_rows

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """(rows, dimension) float32: the vectors of these rows, in this order, as the index holds them."""
        vectors = np.empty((len(rows), self.manifest.dimension), dtype=np.float32)
        for shard, start, end in zip(self._shards, self._starts, self._starts[1:], strict=False):
            mine = (start <= rows) & (rows < end)
            if mine.any():
                vectors[mine] = shard.vectors(rows[mine] - start)
        return vectors

    def verify_pairing(self) -> None:
        """Prove in every shard that ids are positions.

        Raises:
            BuildIntegrityError: Vectors and items of a shard do not pair up.
        """
        for shard in self.manifest.shards:
            verify_pairing(self._files[shard.file], self._files[shard.items_file], shard)

    def items(self, columns: Sequence[str]) -> pa.Table:
        """Columns of every row, in the order of rows; `shard.ITEM_COLUMNS` names what there is."""
        return pa.concat_tables(pq.read_table(items, columns=list(columns)) for items in self._items)


@contextmanager
def _threads_for(queries: int) -> Iterator[None]:
    """No more than queries: FAISS never works on parts of one, and on a busy machine the others are waited for."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(max(1, min(before, queries)))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _merged(best: Neighbours, more: Neighbours, k: int) -> Neighbours:
    """The k best of two sets of rows, best first; of equal scores those of `best` come first."""
    scores = np.concatenate([best.scores, np.where(more.rows >= 0, more.scores, -np.inf)], axis=1)
    rows = np.concatenate([best.rows, more.rows], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Neighbours(np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1))


def _filled_up(best: Neighbours, k: int) -> Neighbours:
    """As many places a query as were asked for, the last of them empty where there is less to be found."""
    lacking = ((0, 0), (0, k - best.rows.shape[1]))
    return Neighbours(
        np.pad(best.scores, lacking, constant_values=-np.inf), np.pad(best.rows, lacking, constant_values=-1)
    )
