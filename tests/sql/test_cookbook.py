"""Every question of docs/sql.md runs, and has an answer."""

import re

import numpy as np
import pytest
from pyspark.errors import PySparkException

from jobs.core.lake import Lake
from jobs.index.builds import mirror_published
from schemas import (
    DUPLICATE_ITEMS,
    ITEM_EMBEDDINGS,
    ITEMS,
    JOB_RUNS,
    QUERY_EMBEDDINGS,
    QUERY_NEIGHBOURS,
    REJECTED_ROWS,
    SIMILAR_QUERIES,
)
from scripts.environment import ROOT
from tests.builds import put_build, unit
from tests.lakes import put_promoted_model
from tests.sql.test_register import DAY, item, put, run, vector

STATEMENTS = re.findall(r"^```sql\n(.*?);\n```$", (ROOT / "docs" / "sql.md").read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def served(spark, model_folder, tmp_path_factory):
    """A lake with a row or more in every table that the cookbook asks."""
    lake = Lake(spark, str(tmp_path_factory.mktemp("cookbook") / "lake"))
    version = put_promoted_model(lake, spark, model_folder)
    vectors = unit(np.random.default_rng(0).normal(size=(40, 32)))
    put_build(lake, spark, "build-old", DAY, "superseded", vectors[:30], version)
    put_build(lake, spark, "build-new", DAY, "published", vectors, version)
    mirror_published(lake, "build-new")
    put(lake, spark, ITEMS, *(item(str(n), category="dress") for n in range(40)))
    rows = (vector(str(n), 0.25, model=version) for n in range(40))
    put(lake, spark, ITEM_EMBEDDINGS, *((*row[:3], vectors[n].tolist(), *row[4:]) for n, row in enumerate(rows)))
    put(lake, spark, QUERY_EMBEDDINGS, ("red dress", version, vectors[0].tolist(), 7, "r"))
    put(lake, spark, DUPLICATE_ITEMS, ("build-new", "1", 1, 0.99), ("build-new", "2", 1, 0.99))
    put(lake, spark, QUERY_NEIGHBOURS, ("build-new", "red dress", 7, "0", 1.0, 0.5, True))
    put(lake, spark, JOB_RUNS, run("index build", minute=1))
    put(lake, spark, REJECTED_ROWS, ("catalog", DAY, "null_id", "{}"))
    put(lake, spark, SIMILAR_QUERIES, ("red dress", "crimson dress", 0.5, 3))
    return lake


def test_the_cookbook_is_there():
    assert len(STATEMENTS) >= 15


def test_every_question_has_an_answer(served, spark, enter_lake):
    enter_lake(served)
    unanswered = []
    for statement in STATEMENTS:
        # Builds of tests know the categories c and d.
        asked = statement.replace("'category', 'dress'", "'category', 'c'")
        try:
            answer = spark.sql(asked).collect()
        except PySparkException as error:
            answer = []
            statement += f"\n{error}"
        if not answer:
            unanswered.append(statement)
    assert not unanswered, "\n\n".join(unanswered)
