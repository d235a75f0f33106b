"""Evaluation ranks the full catalog, task by task, as one exact search over all vectors would."""

import numpy as np
import pandas as pd

from jobs.embedding.inference import open_encoder
from jobs.training.ranking import nearest_of_partition

TITLES = ["red dress", "blue shirt", "green hat", "black shoe", "white bag", "red shoe", "blue dress"]


def test_the_best_items_of_a_partition_are_those_of_an_exact_search(model_folder):
    encoder = open_encoder(str(model_folder), 1)
    queries = encoder.embed_queries(["red", "dress for summer"])
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(len(TITLES))], "title": TITLES, "photo": None})
    batches = [items.iloc[:3], items.iloc[3:5], items.iloc[5:]]
    found = pd.concat(
        nearest_of_partition(iter(batches), model_uri=str(model_folder), queries=queries, depth=3, threads=1)
    )
    scores = queries @ encoder.embed_items(encoder.prepare_items(TITLES, [None] * len(TITLES))).embedding.T
    for position in range(len(queries)):
        expected = {f"i{n}" for n in np.argsort(-scores[position])[:3]}
        assert set(found.loc[found["query"] == position, "item_id"]) == expected
