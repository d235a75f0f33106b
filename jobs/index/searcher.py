"""Search a build: FAISS, numpy and Parquet only, so that it runs in a task, a service or a notebook alike."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from jobs.index.choosing import EXACT_BELOW
from jobs.index.manifest import BuildIntegrityError, Current, Manifest, verify_file
from jobs.index.shard import iterate_items, open_index, read_vectors, vectors_of, verify_pairing


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
        manifest: What the folder holds.
        folder: The build's folder on this machine.
        copy: The temporary folder that holds it, when it was fetched: removed with this.

    Example:
        searcher = Searcher.published("/data/lake/indexes")
        found = searcher.search(encoder.embed_queries(["red dress"]), k=10)
        searcher.items(["item_id", "title"]).take(found.rows[0])
    """

    def __init__(self, manifest: Manifest, folder: Path, copy: tempfile.TemporaryDirectory | None = None) -> None:
        self.manifest = manifest
        self._copy = copy
        self._items_paths = [str(folder / shard.items_file) for shard in manifest.shards]
        self._indexes = [open_index(str(folder / shard.file)) for shard in manifest.shards]
        self._starts = np.cumsum([0, *(shard.rows for shard in manifest.shards)])
        for index in self._indexes:
            if manifest.nprobe:
                faiss.extract_index_ivf(index).nprobe = manifest.nprobe

    @classmethod
    def open(cls, folder: str) -> Self:
        """Open a build's folder (a path or URL); what is not on this machine is fetched for as long as this lives.

        Raises:
            BuildIntegrityError: A file is missing or differs from its digest; no such file is opened.
        """
        manifest = Manifest.read(folder)
        fs, root = url_to_fs(folder)
        if isinstance(fs, LocalFileSystem):
            manifest.verify_files(folder)
            return cls(manifest, Path(root))
        copy = tempfile.TemporaryDirectory(prefix="index-")
        for shard in manifest.shards:
            for name, digest in ((shard.file, shard.sha256), (shard.items_file, shard.items_sha256)):
                local = f"{copy.name}/{name}"
                fs.get_file(f"{root}/{name}", local)
                verify_file(LocalFileSystem(), local, digest)
        return cls(manifest, Path(copy.name), copy)

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

    def search(self, queries: np.ndarray, k: int, *, exact: bool = False, only: np.ndarray | None = None) -> Neighbours:
        """The k rows with the highest inner product, over all shards.

        Args:
            queries: (queries, dimension) float32.
            k: At least 1.
            exact: Compare with every vector instead of asking the index.
            only: (rows,) bool, the rows that may be found; None: all.  Where few may, the answer is exact: lists are
                all read then, since those that a query is near to may hold none of them.

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
        best = Neighbours(
            np.full((len(queries), k), -np.inf, dtype=np.float32), np.full((len(queries), k), -1, dtype=np.int64)
        )
        parts = self._search_exactly(queries, k, only) if exact else self._search_indexes(queries, k, only)
        for start, found in parts:
            best = _merge(best, found, start)
        return best

    def _search_indexes(self, queries: np.ndarray, k: int, only: np.ndarray | None) -> Iterator[tuple[int, Neighbours]]:
        if only is None:
            for start, index in zip(self._starts, self._indexes, strict=False):
                yield start, Neighbours(*index.search(queries, k))
            return
        all_lists = np.count_nonzero(only) < EXACT_BELOW
        for start, end, index in zip(self._starts, self._starts[1:], self._indexes, strict=False):
            if only[start:end].any():
                yield start, _search_only(index, queries, k, only[start:end], all_lists=all_lists)

    def _search_exactly(self, queries: np.ndarray, k: int, only: np.ndarray | None) -> Iterator[tuple[int, Neighbours]]:
        for start, vectors in self.iterate_vectors():
            allowed = np.arange(len(vectors)) if only is None else np.flatnonzero(only[start : start + len(vectors)])
            if len(allowed):
                among = vectors if only is None else vectors[allowed]
                scores, places = faiss.knn(queries, among, min(k, len(allowed)), faiss.METRIC_INNER_PRODUCT)
                yield start, Neighbours(scores, allowed[places])

    def iterate_vectors(self) -> Iterator[tuple[int, np.ndarray]]:
        """Every vector, as stored beside the index: (first row, (rows, dimension) float32), batch by batch."""
        for start, path in zip(self._starts, self._items_paths, strict=False):
            for batch in iterate_items(path, ["embedding"]):
                yield start, vectors_of(batch)
                start += batch.num_rows

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """(rows, dimension) float32: the vectors of these rows, in this order."""
        vectors = np.empty((len(rows), self.manifest.dimension), dtype=np.float32)
        for path, start, end in zip(self._items_paths, self._starts, self._starts[1:], strict=False):
            mine = (start <= rows) & (rows < end)
            if mine.any():
                vectors[mine] = read_vectors(path, rows[mine] - start)
        return vectors

    def verify_pairing(self) -> None:
        """Prove in every shard that ids are positions.

        Raises:
            BuildIntegrityError: Vectors and items of a shard do not pair up.
        """
        for shard, items_path in zip(self.manifest.shards, map(Path, self._items_paths), strict=True):
            verify_pairing(items_path.with_name(shard.file), items_path, shard)

    def items(self, columns: Sequence[str]) -> pa.Table:
        """Columns of every row, in the order of rows; `shard.ITEM_COLUMNS` names what there is."""
        return pa.concat_tables(pq.read_table(path, columns=list(columns)) for path in self._items_paths)


def _search_only(index: faiss.Index, queries: np.ndarray, k: int, only: np.ndarray, *, all_lists: bool) -> Neighbours:
    """Search one shard among the rows that `only`, (rows,) bool, allows."""
    selector = faiss.IDSelectorBitmap(np.packbits(only, bitorder="little"))
    lists = faiss.try_extract_index_ivf(index)
    if lists is None:
        return Neighbours(*index.search(queries, k, params=faiss.SearchParameters(sel=selector)))
    if not all_lists:
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=lists.nprobe)
        return Neighbours(*index.search(queries, k, params=parameters))
    # Every list by its number: a coarse quantizer that is a graph may not find all of them.
    every = np.tile(np.arange(lists.nlist), (len(queries), 1))
    distances = np.zeros(every.shape, dtype=np.float32)
    found = Neighbours(np.empty((len(queries), k), dtype=np.float32), np.empty((len(queries), k), dtype=np.int64))
    arrays = [faiss.swig_ptr(array) for array in (queries, every, distances, found.scores, found.rows)]
    parameters = faiss.SearchParametersIVF(sel=selector, nprobe=lists.nlist)
    lists.search_preassigned_c(len(queries), arrays[0], k, *arrays[1:], False, parameters)
    return found


def _merge(best: Neighbours, found: Neighbours, start: int) -> Neighbours:
    """The best k of two rankings; `found` counts rows from `start`.  Equal scores: the lower row first."""
    k = best.rows.shape[1]
    is_row = found.rows >= 0
    scores = np.concatenate([best.scores, np.where(is_row, found.scores, -np.inf)], axis=1)
    rows = np.concatenate([best.rows, np.where(is_row, found.rows + start, -1)], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Neighbours(np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1))
