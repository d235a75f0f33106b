"""The bare loop: a PyTorch DataLoader whose workers read and decode, and one process that computes and writes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from benchmarks.engines.products import BATCH_SIZE, CORES, open_encoder, time_engine
from models.encoder import Encoder, PreparedItems


class Batch(NamedTuple):
    """Products ready to be computed."""

    item_ids: list[str]
    items: PreparedItems


class Products(IterableDataset):
    """A file's batches, prepared; each worker has row groups of its own."""

    def __init__(self, file: Path, encoder: Encoder) -> None:
        self._file, self._encoder = file, encoder

    def __iter__(self) -> Iterator[Batch]:
        worker, file = get_worker_info(), pq.ParquetFile(self._file)
        groups = range(worker.id, file.num_row_groups, worker.num_workers)
        for batch in file.iter_batches(BATCH_SIZE, row_groups=list(groups)):
            rows = batch.to_pydict()
            yield Batch(rows["item_id"], self._encoder.prepare_items(rows["title"], rows["photo"]))


def embed_products(model: str, file: Path, output: Path, *, workers: int) -> None:
    """Embed a file in one process, `workers` of them decoding for it."""
    # With a thread for every core the workers wait for cores: on two of them, half as fast.
    encoder = open_encoder(model, threads=max(1, CORES // 2))
    writer = None
    loader = DataLoader(Products(file, encoder), batch_size=None, num_workers=workers, prefetch_factor=4)
    for batch in loader:
        vectors = encoder.embed_items(batch.items)
        flat = pa.array(vectors.embedding.reshape(-1))
        columns = {
            "item_id": batch.item_ids,
            "embedding": pa.FixedSizeListArray.from_arrays(flat, encoder.dim),
            "image_status": vectors.image_status,
        }
        rows = pa.table(columns)
        writer = writer or pq.ParquetWriter(output / "vectors.parquet", rows.schema)
        writer.write_table(rows)
    if writer:
        writer.close()


if __name__ == "__main__":
    time_engine(partial(embed_products, workers=CORES))
