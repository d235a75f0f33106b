"""Daft with a class UDF, a process a core."""

from __future__ import annotations

from pathlib import Path

import daft
from daft import DataType, Series

from benchmarks.engines.products import BATCH_SIZE, CORES, embed, open_encoder, time_engine


def embed_products(model: str, file: Path, output: Path) -> None:
    """Embed a file."""

    @daft.cls(max_concurrency=CORES, use_process=True)
    class Embed:
        def __init__(self) -> None:
            self._encoder = open_encoder(model, threads=1)

        @daft.method.batch(return_dtype=DataType.list(DataType.float32()), batch_size=BATCH_SIZE)
        def vectors(self, title: Series, photo: Series) -> list:
            return list(embed(self._encoder, title.to_pylist(), photo.to_pylist()))

    products = daft.read_parquet(str(file))
    products.select("item_id", Embed().vectors(products["title"], products["photo"]).alias("embedding")).write_parquet(
        str(output)
    )


if __name__ == "__main__":
    time_engine(embed_products)
