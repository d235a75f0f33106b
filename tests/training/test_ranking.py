"""Evaluation ranks the full catalog, task by task, as one exact search over all vectors would."""

import numpy as np
import pandas as pd
import pytest

from jobs.embedding.inference import open_encoder
from jobs.training.ranking import embed_partition, moment_of_partition, nearest_of_partition

TITLES = ["red dress", "blue shirt", "green hat", "black shoe", "white bag", "red shoe", "blue dress"]


@pytest.fixture(scope="module")
def embedded(model_folder) -> list[pd.DataFrame]:
    """The titles' vectors, in three batches."""
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(len(TITLES))], "title": TITLES, "photo": None})
    batches = [items.iloc[:3], items.iloc[3:5], items.iloc[5:]]
    return list(embed_partition(iter(batches), model_uri=str(model_folder), threads=1))


def test_the_best_items_of_a_partition_are_those_of_an_exact_search(model_folder, embedded):
    encoder = open_encoder(str(model_folder), 1)
    queries = encoder.embed_queries(["red", "dress for summer"])
    found = pd.concat(nearest_of_partition(iter(embedded), queries=queries, depth=3))
    scores = queries @ encoder.embed_items(encoder.prepare_items(TITLES, [None] * len(TITLES))).embedding.T
    for position in range(len(queries)):
        expected = {f"i{n}" for n in np.argsort(-scores[position])[:3]}
        assert set(found.loc[found["query"] == position, "item_id"]) == expected


def test_a_partitions_moment_is_that_of_all_its_vectors(embedded):
    vectors = np.stack(pd.concat(embedded)["embedding"])
    (part,) = moment_of_partition(iter(embedded))
    assert part["items"].tolist() == [len(TITLES)]
    np.testing.assert_allclose(part["moment"][0].reshape(vectors.shape[1], -1), vectors.T @ vectors, atol=1e-6)
