"""What every engine is given, and how it is timed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from models.encoder import Encoder

# As `embedding items` has it by default.
BATCH_SIZE = 128
CORES = os.cpu_count() or 1


def open_encoder(model: str | Path, *, threads: int) -> Encoder:
    """A model folder, computing and decoding in so many threads."""
    torch.set_num_threads(threads)
    return Encoder.from_folder(model, decode_threads=threads)


def embed(encoder: Encoder, titles: Sequence[str], photos: Sequence[bytes | None]) -> np.ndarray:
    """(rows, dim) float32 vectors of products."""
    return encoder.embed_items(encoder.prepare_items(titles, photos)).embedding


def time_engine(embed_products: Callable[[str, Path, Path], None]) -> None:
    """Time an engine as its command line says: a model's folder, an output folder and a file of products.

    Prints the seconds that the file took.

    Args:
        embed_products: Model folder, file of products (item_id, title, photo) and a folder for their vectors.
    """
    model, output, file = sys.argv[1:]
    Path(output).mkdir(parents=True)
    began = time.perf_counter()
    embed_products(model, Path(file), Path(output))
    print(time.perf_counter() - began)
