"""One shard of an index: write it while rows stream by, and prove that what was written is what was meant.

FAISS ids are positions in the shard's Parquet file, so a shard needs no table of ids.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from jobs.index.manifest import BuildIntegrityError, Effort, ShardEntry, file_sha256
from jobs.index.shard_index import ShardIndex, list_sizes

ITEM_COLUMNS = (
    "item_id",
    "title",
    "category",
    "price",
    "in_stock",
    "content_hash",
    "image_sha256",
    "title_weight",
    "image_weight",
    "photo_effect",
    "image_status",
    "embedding",
)

# Vectors of a shard that are searched for in it, once written; how hard; and the share that a graph or codes may miss.
_PROBED_ROWS = 64
_PROBING = Effort(nprobe=8, ef_search=256, refine=100)
_LOST_AT_MOST = 0.05
# Two scores this close are one score: BLAS sums a row differently depending on where it stands.
SCORE_TOLERANCE = 1e-5


def shard_name(number: int, shards: int) -> str:
    """File name without its ending, the way sharded files are commonly named: shard-00002-of-00006."""
    return f"shard-{number:05d}-of-{shards:05d}"


def vectors_of(items: pa.RecordBatch | pa.Table) -> np.ndarray:
    """The column `embedding` as (rows, dimension) float32; rows share one dimension."""
    column = items.column("embedding")
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return np.ascontiguousarray(values.reshape(len(column), -1))


class ShardWriter:
    """Writes one shard; holds its FAISS index and one batch of rows, never all rows.

    Both files get their names only when complete, so that a task that dies leaves nothing that looks like a shard.

    Args:
        folder: The build's folder, a path or URL.
        number: Number of the shard, from 0.
        shards: Number of shards of the build.
        trained: The build's empty trained index, as `faiss.serialize_index` gives it.
        partition: The part of the catalog that the shard is of.
    """

    def __init__(
        self, folder: str, number: int, shards: int, trained: np.ndarray, *, partition: str | None = None
    ) -> None:
        self._fs, self._root = url_to_fs(folder)
        self._number, self._partition = number, partition
        self._name = shard_name(number, shards)
        self._index = faiss.deserialize_index(trained)
        self._scratch = Path(tempfile.mkdtemp(prefix="shard-"))
        self._items_path = self._scratch / "items.parquet"
        self._items: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._items is not None:
            self._items.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def list_sizes(self) -> np.ndarray:
        """(lists,) vectors in each inverted list; empty without lists."""
        return list_sizes(self._index)

    def add(self, items: pa.RecordBatch) -> None:
        """Append rows that have the columns `ITEM_COLUMNS`; their ids are the positions that follow."""
        items = items.select(ITEM_COLUMNS)
        if self._items is None:
            self._items = pq.ParquetWriter(
                self._items_path, items.schema, compression="zstd", use_dictionary=["category", "image_status"]
            )
        self._items.write_batch(items)
        self._index.add(vectors_of(items))

    def finish(self) -> ShardEntry:
        """Write both files, read them back, and describe them.

        Raises:
            BuildIntegrityError: What lies in the lake is not what was written.
        """
        self._items.close()
        index_path = self._scratch / "index.faiss"
        faiss.write_index(self._index, str(index_path))
        entry = ShardEntry(
            number=self._number,
            rows=self._index.ntotal,
            file=f"{self._name}.faiss",
            sha256=self._put(index_path, f"{self._name}.faiss"),
            items_file=f"{self._name}.items.parquet",
            items_sha256=self._put(self._items_path, f"{self._name}.items.parquet"),
            partition=self._partition,
        )
        verify_pairing(str(index_path), str(self._items_path), entry)
        return entry

    def _put(self, local: Path, name: str) -> str:
        """Copy a file into the lake under a name of its own, compare digests, then give it its name."""
        local_digest = file_sha256(_LOCAL, str(local))
        temporary = f"{self._root}/.{name}.{uuid.uuid4().hex[:8]}"
        self._fs.put_file(str(local), temporary)
        stored_digest = file_sha256(self._fs, temporary)
        if stored_digest != local_digest:
            raise BuildIntegrityError(
                f"{temporary}: the lake returned other bytes than were written; run the job again"
            )
        self._fs.mv(temporary, f"{self._root}/{name}")
        return local_digest


def verify_pairing(index_path: str, items_path: str, entry: ShardEntry) -> None:
    """Prove that ids are positions: as many vectors as rows, sampled ones lie at their place, and find themselves.

    Raises:
        BuildIntegrityError: They do not pair up.
    """
    index = ShardIndex.open(index_path)
    rows = pq.ParquetFile(items_path).metadata.num_rows
    if not len(index) == rows == entry.rows:
        raise BuildIntegrityError(f"{entry.file} holds {len(index)} vectors, its items file {rows} rows")
    probed = np.linspace(0, rows - 1, num=min(rows, _PROBED_ROWS)).astype(int)
    vectors = read_vectors(items_path, probed)
    moved = np.abs(index.vectors(probed) - vectors).max(axis=1) > SCORE_TOLERANCE
    if moved.any():
        raise BuildIntegrityError(
            f"{entry.file}: {moved.sum()} of {len(probed)} sampled vectors are not those of their rows in "
            f"{entry.items_file} (first: position {probed[moved][0]})"
        )
    found = index.search(vectors, 1, _PROBING, index.near_lists(vectors, _PROBING.nprobe), None)
    # An equal vector of another item is as good an answer as the item itself.
    lost = found.scores.max(axis=1) < (vectors * vectors).sum(axis=1) - SCORE_TOLERANCE
    if lost.mean() > (_LOST_AT_MOST if index.is_graph or index.base is not index.whole else 0):
        raise BuildIntegrityError(
            f"{entry.file}: {lost.sum()} of {len(probed)} sampled vectors do not find themselves "
            f"(first: position {probed[lost][0]})"
        )


def read_vectors(items_path: str, positions: np.ndarray) -> np.ndarray:
    """(positions, dimension) float32: the vectors at these positions of an items file, in this order."""
    order = np.argsort(positions, kind="stable")
    parts, start, taken = [], 0, 0
    for batch in iterate_items(pa.memory_map(items_path), ["embedding"]):
        until = np.searchsorted(positions[order], start + batch.num_rows)
        parts.append(vectors_of(batch)[positions[order[taken:until]] - start])
        start, taken = start + batch.num_rows, until
    vectors = np.concatenate(parts)
    unsorted = np.empty_like(vectors)
    unsorted[order] = vectors
    return unsorted


def iterate_items(items: pa.NativeFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """An items file's rows in order, a batch at a time."""
    yield from pq.ParquetFile(items).iter_batches(batch_size=16_384, columns=columns)


_LOCAL: AbstractFileSystem = url_to_fs("/")[0]
