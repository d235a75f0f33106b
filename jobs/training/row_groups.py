"""Parquet files with constant row groups, written by Spark tasks through fsspec.

Spark's own writer takes no row count for its row groups, and training shards by row group: unequal ones starve ranks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from pyspark import TaskContext
from pyspark.sql import DataFrame

# The column that names a row's file, relative to the folder; it is not written.
FILE = "file"


@dataclass(frozen=True)
class WrittenFile:
    """What a finished file holds."""

    file: str
    rows: int
    row_groups: int
    bytes: int


class RowGroupFile:
    """One Parquet file whose row groups all hold the same number of rows, but for the last.

    The file appears under its name when it is complete: a task that dies leaves a hidden file, and the attempt that
    repeats it writes its own.

    Args:
        folder: URI that fsspec reads.
        name: File name relative to the folder.
        schema: Columns of the file.
        row_group_size: Rows of a row group.
    """

    def __init__(self, folder: str, name: str, schema: pa.Schema, row_group_size: int) -> None:
        self._fs, root = url_to_fs(folder)
        self._name, self._path = name, f"{root}/{name}"
        parent, _, file = self._path.rpartition("/")
        context = TaskContext.get()
        self._unfinished = f"{parent}/.{file}.{context.taskAttemptId() if context else 0}"
        self._fs.makedirs(parent, exist_ok=True)
        self._stream = self._fs.open(self._unfinished, "wb")
        self._writer = pq.ParquetWriter(self._stream, schema, compression="zstd")
        self._size = row_group_size
        self._waiting: list[pa.RecordBatch] = []
        self._rows_waiting = 0
        self._rows = 0
        self._row_groups = 0

    def add(self, rows: pa.RecordBatch) -> None:
        """Take further rows; whole row groups go to the file at once."""
        while rows.num_rows:
            taken = rows.slice(0, self._size - self._rows_waiting)
            self._waiting.append(taken)
            self._rows_waiting += taken.num_rows
            rows = rows.slice(taken.num_rows)
            if self._rows_waiting == self._size:
                self._flush()

    def close(self) -> WrittenFile:
        """Write what is left, and give the file its name."""
        if self._waiting:
            self._flush()
        self._writer.close()
        self._stream.close()
        self._fs.mv(self._unfinished, self._path)
        return WrittenFile(self._name, self._rows, self._row_groups, self._fs.size(self._path))

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=self._size)
        self._rows += self._rows_waiting
        self._row_groups += 1
        self._waiting, self._rows_waiting = [], 0


def write_files(
    rows: DataFrame, *, order: list[str], folder: str, row_group_size: int, tasks: int
) -> list[WrittenFile]:
    """Write rows to the files that their `file` column names.

    Args:
        rows: `file` STRING, the columns of `order`, and the columns to write.  The columns of `order` are not written.
        order: Columns that sort the rows of a file.
        folder: URI of the folder that `file` is relative to, as fsspec reads it.
        row_group_size: Rows of every row group but a file's last.
        tasks: How many tasks write; a task streams its files one after the other and holds one row group at a time.

    Returns:
        One entry a file, in order of name.
    """

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        finished = [vars(file) for file in _write_batches(batches, {FILE, *order}, folder, row_group_size)]
        yield pa.RecordBatch.from_pylist(finished, schema=_WRITTEN)

    in_order = rows.repartition(tasks, FILE).sortWithinPartitions(FILE, *order)
    written = in_order.mapInArrow(write, "file string, rows long, row_groups long, bytes long").collect()
    return sorted((WrittenFile(**row.asDict()) for row in written), key=lambda file: file.file)


_WRITTEN = pa.schema([("file", pa.string()), ("rows", pa.int64()), ("row_groups", pa.int64()), ("bytes", pa.int64())])


def _write_batches(
    batches: Iterator[pa.RecordBatch], not_written: set[str], folder: str, row_group_size: int
) -> Iterator[WrittenFile]:
    """Stream batches, sorted by file, into one file after the other."""
    name, file = None, None
    for batch in batches:
        content = batch.select([column for column in batch.schema.names if column not in not_written])
        start = 0
        for of_file, rows in itertools.groupby(batch.column(FILE).to_pylist()):
            if of_file != name:
                if file is not None:
                    yield file.close()
                name = of_file
                file = RowGroupFile(folder, name, content.schema, row_group_size)
            count = sum(1 for _ in rows)
            file.add(content.slice(start, count))
            start += count
    if file is not None:
        yield file.close()
