"""What tests do to vectors and to a build's folder."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.index.manifest import Manifest


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors, their norms made 1."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Change a shard's file, and its digest in the manifest so that it fits."""
    was = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / name).write_bytes(content)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace(was, hashlib.sha256(content).hexdigest()))
    Manifest.read(str(folder)).verify_files(str(folder))


def rewrite_items(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the items of every shard, and their digests in the manifest so that they fit."""
    for shard in Manifest.read(str(folder)).shards:
        sink = pa.BufferOutputStream()
        pq.write_table(change(pq.read_table(folder / shard.items_file)), sink)
        rewrite(folder, shard.items_file, sink.getvalue().to_pybytes())
