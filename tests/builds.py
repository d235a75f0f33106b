"""Builds of made-up vectors: written, put into a lake, and changed."""

import datetime as dt
import hashlib
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from jobs.index.index_key import IndexKey
from jobs.index.manifest import Content, Effort, Manifest
from jobs.index.quantizer import train
from jobs.index.shard import ShardWriter
from schemas import INDEX_BUILDS

_hours = count()


def write_build(
    folder,
    vectors,
    *,
    shards=2,
    index_key="Flat",
    nprobe=0,
    ef_search=0,
    build_id="build-test",
    model_version="make-test",
    photos=None,
):
    """Write a build of items "0", "1", ..., dealt to the shards in turn; returns its folder.

    An item costs as much as its number says; every third has no price, and every second is of category d, not c.  Of
    four in turn two are in stock, one is not, and of one nothing is known.  `photos` are digests, an item each.
    """
    fs, root = url_to_fs(folder)
    fs.makedirs(root, exist_ok=True)
    trained = train(vectors, IndexKey.parse(index_key))
    entries = []
    for number in range(shards):
        with ShardWriter(folder, number, shards, trained) as writer:
            for rows in np.array_split(np.arange(number, len(vectors), shards), 2):
                writer.add(_items(rows, vectors, photos or [None] * len(vectors)))
            entries.append(writer.finish())
    manifest = Manifest(
        build_id=build_id,
        model_version=model_version,
        dimension=vectors.shape[1],
        index_key=index_key,
        effort=Effort(nprobe=nprobe, refine=16 if index_key.endswith("RFlat") else 0, ef_search=ef_search),
        training=None,
        partition_by=None,
        shards=tuple(entries),
        content=Content(items=len(vectors), sha256=""),
    )
    fs.pipe_file(f"{root}/manifest.json", manifest.to_bytes())
    return folder


def _items(rows: np.ndarray, vectors: np.ndarray, photos: list[str | None]) -> pa.RecordBatch:
    ids = [str(row) for row in rows]
    return pa.RecordBatch.from_pydict(
        {
            "item_id": ids,
            "title": [f"title of {item_id}" for item_id in ids],
            "category": [("c", "d")[row % 2] for row in rows],
            "price": pa.array([None if row % 3 == 2 else float(row) for row in rows], pa.float64()),
            "in_stock": [(True, False, None, True)[row % 4] for row in rows],
            "content_hash": [f"content of {item_id}" for item_id in ids],
            "image_sha256": pa.array([photos[row] for row in rows], pa.string()),
            "title_weight": pa.array([0.75] * len(rows), pa.float32()),
            "image_weight": pa.array([0.25] * len(rows), pa.float32()),
            "photo_effect": pa.array([0.1] * len(rows), pa.float32()),
            "image_status": ["ok"] * len(rows),
            "embedding": pa.array(list(vectors[rows]), pa.list_(pa.float32())),
        }
    )


def put_build(lake, spark, build_id, date, status, rows, model_version, **written):
    """Put a build with its row into a lake, as if a night had made it, an hour after the one put before."""
    write_build(lake.path("indexes", build_id), rows, build_id=build_id, model_version=model_version, **written)
    made = dt.datetime(2026, 11, 1, tzinfo=dt.UTC) + dt.timedelta(hours=next(_hours))
    row = {
        **dict.fromkeys(INDEX_BUILDS.column_names),
        "build_id": build_id,
        "logical_date": date,
        "model_version": model_version,
        "items": len(rows),
        "dimension": rows.shape[1],
        "shards": 2,
        "index_key": "Flat",
        "delta_versions": {},
        "gates": None if status == "built" else [],
        "status": status,
        "built_at": made,
        "published_at": made if status in ("published", "superseded") else None,
    }
    lake.append(INDEX_BUILDS, spark.createDataFrame([row], INDEX_BUILDS.schema))


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
