"""Search a build: FAISS, numpy and Parquet only, so that it runs in a task, a service or a notebook alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.index.choosing import EXACT_BELOW
from jobs.index.local_files import local_files
from jobs.index.manifest import BuildIntegrityError, Current, Effort, Manifest
from jobs.index.shard import iterate_items, vectors_of, verify_pairing
from jobs.index.shard_index import Candidates, ShardIndex, widened


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
        self._index_paths = [files[shard.file] for shard in manifest.shards]
        self._items_paths = [files[shard.items_file] for shard in manifest.shards]
        self._shards = [ShardIndex.open(path) for path in self._index_paths]
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
        best = faiss.ResultHeap(len(queries), k, keep_max=True)
        parts = self._search_exactly(queries, k, only) if exact else self._search_shards(queries, k, only, effort)
        for start, found in parts:
            rows = np.where(found.positions >= 0, found.positions + start, -1)
            best.add_result(found.scores, rows)
        best.finalize()
        return Neighbours(np.where(best.I >= 0, best.D, -np.inf), best.I)

    def _search_shards(
        self, queries: np.ndarray, k: int, only: np.ndarray | None, effort: Effort | None
    ) -> Iterator[tuple[int, Candidates]]:
        allowed = len(self) if only is None else np.count_nonzero(only)
        if allowed == len(self):
            only = None
        elif allowed < EXACT_BELOW:
            yield from self._search_few(queries, k, only)
            return
        effort = widened(effort or self.manifest.effort, allowed / len(self))
        near = self._shards[0].near_lists(queries, effort)
        for start, end, shard in zip(self._starts, self._starts[1:], self._shards, strict=False):
            of_shard = None if only is None else only[start:end]
            if of_shard is None or of_shard.any():
                yield start, shard.search(queries, k, effort, near, of_shard)

    def _search_few(self, queries: np.ndarray, k: int, only: np.ndarray) -> Iterator[tuple[int, Candidates]]:
        for start, end, shard in zip(self._starts, self._starts[1:], self._shards, strict=False):
            positions = np.flatnonzero(only[start:end])
            if len(positions):
                yield start, shard.search_among(queries, k, positions)

    def _search_exactly(self, queries: np.ndarray, k: int, only: np.ndarray | None) -> Iterator[tuple[int, Candidates]]:
        for start, vectors in self.iterate_vectors():
            allowed = np.arange(len(vectors)) if only is None else np.flatnonzero(only[start : start + len(vectors)])
            if len(allowed):
                among = vectors if only is None else vectors[allowed]
                scores, places = faiss.knn(queries, among, min(k, len(allowed)), faiss.METRIC_INNER_PRODUCT)
                yield start, Candidates(scores, allowed[places])

    def iterate_vectors(self) -> Iterator[tuple[int, np.ndarray]]:
        """Every vector, as stored beside the index: (first row, (rows, dimension) float32), batch by batch."""
        for start, path in zip(self._starts, self._items_paths, strict=False):
            for batch in iterate_items(path, ["embedding"]):
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
        for index, items, shard in zip(self._index_paths, self._items_paths, self.manifest.shards, strict=True):
            verify_pairing(index, items, shard)

    def items(self, columns: Sequence[str]) -> pa.Table:
        """Columns of every row, in the order of rows; `shard.ITEM_COLUMNS` names what there is."""
        return pa.concat_tables(pq.read_table(path, columns=list(columns)) for path in self._items_paths)
