"""A night's lake, written by hand: small enough to count by eye."""

import hashlib

import numpy as np
import pytest

from schemas import (
    EMBEDDING_FAILURES,
    INDEX_BUILDS,
    ITEM_EMBEDDINGS,
    ITEM_IMAGES,
    ITEMS,
    JOB_RUNS,
    MODELS,
    QUERY_EMBEDDINGS,
)
from tests.operations.nights import BEFORE, MIDNIGHT, MODEL, NIGHT, SCRIPT, job_run
from tests.photos import jpeg


@pytest.fixture
def items(spark):
    """One new, one changed, two unchanged, one gone this night, one gone before."""
    rows = [
        # item, category, photo, active, first seen, gone, changed
        ("new", "dress", "red", True, NIGHT, None, NIGHT),
        ("changed", "dress", "blue", True, BEFORE, None, NIGHT),
        ("same", "hat", None, True, BEFORE, None, BEFORE),
        ("script", None, "green", True, BEFORE, None, BEFORE),
        ("gone", "hat", None, False, BEFORE, NIGHT, NIGHT),
        ("gone before", "hat", None, False, BEFORE, BEFORE, BEFORE),
    ]
    return spark.createDataFrame(
        [
            (
                name,
                SCRIPT if name == "script" else f"{name} item",
                category,
                9.5,
                None,
                None,
                None,
                photo and hashlib.sha256(jpeg(photo)).hexdigest(),
                name,
                active,
                first_seen,
                gone,
                changed,
            )
            for name, category, photo, active, first_seen, gone, changed in rows
        ],
        ITEMS.schema,
    )


@pytest.fixture
def embeddings(spark):
    """Vectors of four dimensions; the photo weighs 0.2, 0.6 and 1.0 where there is one."""
    weights = {"new": 0.2, "changed": 0.6, "same": 0.0, "script": 1.0, "gone": 0.9}
    status = {"same": "missing"}
    rows = [
        (name, MODEL, name, np.eye(4)[place % 4].tolist(), 1 - weight, weight, 0.1, status.get(name, "ok"), "night")
        for place, (name, weight) in enumerate(weights.items())
    ]
    return spark.createDataFrame(rows, ITEM_EMBEDDINGS.schema)


@pytest.fixture
def failures(spark):
    """One item that failed this night, one that failed before, one under another model."""
    rows = [
        ("x", MODEL, "h", "not a number in the vector", 1, NIGHT),
        ("y", MODEL, "h", "too long ago", 1, BEFORE),
        ("z", "other", "h", "another model", 1, NIGHT),
    ]
    return spark.createDataFrame(rows, EMBEDDING_FAILURES.schema)


@pytest.fixture
def night_lake(lake, spark, items, embeddings, failures):
    """Tables of a night whose chain ran through to a promoted model's vectors; nothing is built yet."""
    lake.append(ITEMS, items)
    lake.append(ITEM_EMBEDDINGS, embeddings)
    lake.append(EMBEDDING_FAILURES, failures)
    photos = [
        (hashlib.sha256(p).hexdigest(), p, len(p), 48, 64, "JPEG", True, None) for p in map(jpeg, ["red", "blue"])
    ]
    # The third photo is known as unreadable: its item is shown without one.
    broken = (hashlib.sha256(jpeg("green")).hexdigest(), b"\xff", 1, None, None, None, False, "truncated")
    lake.append(ITEM_IMAGES, spark.createDataFrame([*photos, broken], ITEM_IMAGES.schema))
    queries = [(f"query {n}", MODEL, np.eye(4)[n % 4].tolist(), 100 - n, "night") for n in range(5)]
    lake.append(QUERY_EMBEDDINGS, spark.createDataFrame(queries, QUERY_EMBEDDINGS.schema))
    model = (MODEL, "w", "p", "set", "{}", 4, {}, "promoted", None, MIDNIGHT, MIDNIGHT, None)
    lake.append(MODELS, spark.createDataFrame([model], MODELS.schema))
    rejected = spark.createDataFrame(
        [("empty_title", '{"item_id": "7", "title": "<img src=x>"}')] * 2, "reason string, row string"
    )
    lake.reject(rejected, source="catalog", logical_date=NIGHT)
    lake.reject(rejected, source="catalog", logical_date=BEFORE)
    runs = [
        job_run("catalog ingest", verdict="failed", notes=["lacks <b>items</b>"], run_id="run-of-noon"),
        job_run("catalog ingest", counts=(6, 4, 2), minute=1),
        job_run("catalog ingest", date=BEFORE, notes=["a note of the night before"]),
    ]
    lake.append(JOB_RUNS, spark.createDataFrame(runs, JOB_RUNS.schema))
    return lake


@pytest.fixture
def builds(spark):
    """Makes rows of index_builds: `builds(build_row(...), ...)`."""
    return lambda *rows: spark.createDataFrame(list(rows), INDEX_BUILDS.schema)
