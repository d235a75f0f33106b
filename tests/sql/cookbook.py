"""The questions of docs/sql.md, and a lake that has an answer to each."""

from pathlib import Path

import numpy as np

from jobs.core.lake import Lake
from jobs.index.builds import mirror_published
from schemas import (
    DUPLICATE_ITEMS,
    ITEM_EMBEDDINGS,
    ITEM_IMAGES,
    ITEMS,
    JOB_RUNS,
    QUERY_EMBEDDINGS,
    QUERY_NEIGHBOURS,
    REJECTED_ROWS,
    SIMILAR_QUERIES,
)
from scripts.cookbook import PAGE, questions
from tests.builds import put_build, unit
from tests.lakes import put_promoted_model
from tests.photos import jpeg
from tests.sql.test_register import DAY, item, put, run, vector

# Builds of tests know the categories c and d.
STATEMENTS = [
    question.statement.replace("'Apparel > Dress'", "'c'").replace("'handbag'", "'red dress'")
    for question in questions(PAGE.read_text(encoding="utf-8"))
]
_COLOURS = ("red", "green", "blue", "white", "black")


def put_answers(spark, root: Path, model_folder: Path) -> Lake:
    """A lake with a row or more in every table that the cookbook asks, and two builds of forty items.

    The second build is published, and holds the vectors that the first has turned around.
    """
    lake = Lake(spark, str(root))
    version = put_promoted_model(lake, spark, model_folder)
    vectors = unit(np.random.default_rng(0).normal(size=(40, 32)))
    put_build(lake, spark, "build-old", DAY, "superseded", -vectors, version)
    put_build(lake, spark, "build-new", DAY, "published", vectors, version)
    mirror_published(lake, "build-new")
    put(lake, spark, ITEMS, *(item(str(n), category="dress", photo=f"photo {n % 5}") for n in range(40)))
    photos = ((f"photo {n}", jpeg(colour), 1, 48, 64, "JPEG", True, None) for n, colour in enumerate(_COLOURS))
    put(lake, spark, ITEM_IMAGES, *photos)
    rows = (vector(str(n), 0.25, model=version) for n in range(40))
    put(lake, spark, ITEM_EMBEDDINGS, *((*row[:3], vectors[n].tolist(), *row[4:]) for n, row in enumerate(rows)))
    put(lake, spark, QUERY_EMBEDDINGS, ("red dress", version, vectors[0].tolist(), 7, "r"))
    put(lake, spark, DUPLICATE_ITEMS, ("build-new", "1", 1, 0.99), ("build-new", "2", 1, 0.99))
    put(lake, spark, QUERY_NEIGHBOURS, ("build-new", "red dress", 7, "0", 1.0, 0.5, True))
    put(lake, spark, JOB_RUNS, run("index build", minute=1))
    put(lake, spark, REJECTED_ROWS, ("catalog", DAY, "null_id", "{}"))
    put(lake, spark, SIMILAR_QUERIES, ("red dress", "crimson dress", 0.5, 3))
    return lake
