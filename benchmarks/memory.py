"""How much memory a Python worker of `embedding items` takes, and that it does not grow with the catalog.

python -m benchmarks.memory --model lake/models/<version> --catalog catalog.parquet --images images.parquet
"""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.lakes import BenchmarkLake, repeated
from benchmarks.options import read_options
from benchmarks.peaks import watched
from benchmarks.table import markdown_table
from jobs.core.options import CommaSeparated, JobOptions

NIGHT = dt.date(2026, 1, 1)


class Options(BaseSettings):
    """Embed catalogs of several sizes, and see how much memory the Python workers take at most."""

    model_config = JobOptions.model_config

    model: Path = Field(description="Folder of a model.")
    catalog: Path = Field(description="Parquet of a catalog's snapshot.")
    images: Path = Field(description="Parquet of image_uri, content.")
    sizes: CommaSeparated[int] = Field([10_000, 100_000], description="Products with a photo to embed, as n,m.")


def peak_of(options: Options, size: int, folder: Path) -> int:
    """Bytes that a worker takes at most while it embeds so many products."""
    catalog, images = pq.read_table(options.catalog), pq.read_table(options.images, columns=["image_uri"])
    with_photo = catalog.filter(pa.compute.is_in(catalog["image_uri"], images["image_uri"].combine_chunks()))
    pq.write_table(repeated(with_photo, size), folder / "snapshot.parquet")
    lake = BenchmarkLake(folder)
    lake.put_model(options.model)
    lake.ingest(NIGHT, folder / "snapshot.parquet", options.images)
    with watched() as peaks:
        lake.run_job("embedding", "items", f"--date={NIGHT}")
    return peaks.worker_bytes


def main(arguments: list[str]) -> None:
    """Embed catalog after catalog, and print the table."""
    options = read_options(Options, arguments)
    rows = [["products", "peak of a Python worker, MiB"]]
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows.append([f"{size:,}", f"{peak_of(options, size, Path(folder)) / 2**20:,.0f}"])
    print(markdown_table(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
