"""Made-up vectors, as items of a lake and as builds: what the index is made of, without the model's minutes."""

import datetime as dt
import hashlib

import faiss
import numpy as np
import pyarrow as pa
import pytest
from fsspec.core import url_to_fs

from jobs.index.manifest import Content, Effort, Manifest
from jobs.index.shard import ShardWriter
from models.encoder import Encoder
from schemas import INDEX_BUILDS, ITEM_EMBEDDINGS, ITEMS

DAY = dt.date(2026, 11, 1)


@pytest.fixture(scope="session", autouse=True)
def one_thread_of_faiss():
    """Tests run side by side; threads of FAISS that wait for a core of their own make each other wait."""
    faiss.omp_set_num_threads(1)


@pytest.fixture
def put_items(lake, spark):
    """Puts items, and vectors for those that have one, into the lake: `put_items({"a": vector, "b": None}, version)`.

    A changed vector is changed content, as it is when a model makes it; `title` is that of all items, or item_id to
    title.
    """

    def put(vectors, model_version, *, title="red dress", price=1.0, active=True):
        titles = title if isinstance(title, dict) else dict.fromkeys(vectors, title)
        items, embeddings = [], []
        for item_id, vector in vectors.items():
            content = b"" if vector is None else np.asarray(vector, np.float32).tobytes()
            content_hash = hashlib.sha256(titles[item_id].encode() + content).hexdigest()
            gone = None if active else DAY
            items.append(
                (item_id, titles[item_id], "c", price, None, None, None, None, content_hash, active, DAY, gone, DAY)
            )
            if vector is not None:
                floats = [float(x) for x in vector]
                embeddings.append((item_id, model_version, content_hash, floats, 0.75, 0.25, 0.1, "ok", "test"))
        lake.merge(ITEMS, spark.createDataFrame(items, ITEMS.schema))
        lake.merge(ITEM_EMBEDDINGS, spark.createDataFrame(embeddings, ITEM_EMBEDDINGS.schema))

    return put


@pytest.fixture
def vectors() -> dict[str, np.ndarray]:
    """Forty items' vectors, none like another."""
    directions = np.random.default_rng(0).normal(size=(40, 32)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return {f"item-{row:02d}": vector for row, vector in enumerate(directions)}


@pytest.fixture(scope="session")
def embed(model_folder):
    """Makes items' vectors as the promoted model does: `embed(titles, photos)`, photos bytes or None."""
    encoder = Encoder.from_folder(model_folder)

    def vectors_of(titles, photos=None):
        return encoder.embed_items(encoder.prepare_items(titles, photos or [None] * len(titles))).embedding

    return vectors_of


@pytest.fixture(scope="session")
def write_build():
    """Writes a build of items "0", "1", ..., dealt to the shards in turn: `write_build(folder, vectors)`.

    An item costs as much as its number says; every third has no price, and every second is of category d, not c.  Of
    four in turn two are in stock, one is not, and of one nothing is known.  `photos` are digests, an item each.
    """

    def write(
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
        fs, root = url_to_fs(folder)
        fs.makedirs(root, exist_ok=True)
        index = faiss.index_factory(vectors.shape[1], index_key, faiss.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            index.train(vectors)
        trained = faiss.serialize_index(index)
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

    return write


def _items(rows: np.ndarray, vectors: np.ndarray, photos: list[str | None]) -> pa.RecordBatch:
    count = len(rows)
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
            "title_weight": pa.array([0.75] * count, pa.float32()),
            "image_weight": pa.array([0.25] * count, pa.float32()),
            "photo_effect": pa.array([0.1] * count, pa.float32()),
            "image_status": ["ok"] * count,
            "embedding": pa.array(list(vectors[rows]), pa.list_(pa.float32())),
        }
    )


@pytest.fixture(scope="session")
def put_build_in(spark, write_build):
    """Puts a build with its row into any lake: `put_build_in(lake, "build-a", date, "passed", rows, model_version)`."""
    nights = iter(range(1000))

    def put(lake, build_id, date, status, rows, model_version, **written):
        write_build(lake.path("indexes", build_id), rows, build_id=build_id, model_version=model_version, **written)
        made = dt.datetime(2026, 11, 1, tzinfo=dt.UTC) + dt.timedelta(hours=next(nights))
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

    return put


@pytest.fixture
def put_build(lake, put_build_in, promoted_model, vectors):
    """Puts a build into the test's lake, as if a night had made it: `put_build("build-a", date, "passed")`."""

    def put(build_id, date, status, *, rows=None, model_version=promoted_model):
        rows = np.array(list(vectors.values())) if rows is None else rows
        put_build_in(lake, build_id, date, status, rows, model_version)

    return put
