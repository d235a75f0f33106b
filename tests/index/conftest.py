"""Made-up vectors, as items of a lake and as builds: what the index is made of, without the model's minutes."""

import datetime as dt
import hashlib

import faiss
import numpy as np
import pytest

from models.encoder import Encoder
from schemas import ITEM_EMBEDDINGS, ITEMS
from tests import builds

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
    """`builds.write_build`."""
    return builds.write_build


@pytest.fixture(scope="session")
def put_build_in(spark):
    """Puts a build with its row into any lake: `put_build_in(lake, "build-a", date, "passed", rows, model_version)`."""
    return lambda lake, *build, **written: builds.put_build(lake, spark, *build, **written)


@pytest.fixture
def put_build(lake, put_build_in, promoted_model, vectors):
    """Puts a build into the test's lake, as if a night had made it: `put_build("build-a", date, "passed")`."""

    def put(build_id, date, status, *, rows=None, model_version=promoted_model):
        rows = np.array(list(vectors.values())) if rows is None else rows
        put_build_in(lake, build_id, date, status, rows, model_version)

    return put
