import numpy as np
import pyarrow.parquet as pq
import pytest

from models.encoder import Encoder
from models.training.validation import SPLITS, Validation
from tests.models.conftest import catalog


@pytest.fixture(scope="module")
def encoder(model_folder) -> Encoder:
    return Encoder.from_folder(model_folder, device="cpu")


def test_recall_equals_ranking_every_item_but_those_seen_in_training(training_set, encoder):
    items = catalog()
    vectors = encoder.embed_items(
        encoder.prepare_items([item["title"] for item in items], [item["photo"] for item in items])
    ).embedding
    rows = [row for split in SPLITS for row in pq.read_table(training_set / split).to_pylist()]
    hits = []
    assert len({row["query"] for row in rows}) == 32 + 64, "of held-out queries and of held-out products"
    for query in {row["query"] for row in rows}:
        relevant = {row["item_key"] for row in rows if row["query"] == query}
        seen = {key for row in rows if row["query"] == query for key in row["clicked_items"]} - relevant
        scores = vectors @ encoder.embed_queries([query])[0]
        ranked = [items[place]["item_key"] for place in np.argsort(-scores)]
        top = [key for key in ranked if key not in seen][:10]
        hits.append(len(relevant.intersection(top)) / min(10, len(relevant)))
    measured = Validation(training_set, encoder, max_items=1_000).measure(encoder)
    assert measured["recall_at_10"] == pytest.approx(np.mean(hits))


def test_a_bounded_pool_still_holds_every_relevant_item(training_set, encoder):
    everything = Validation(training_set, encoder, max_items=1_000).measure(encoder)
    bounded = Validation(training_set, encoder, max_items=1).measure(encoder)
    assert bounded["recall_at_100"] == everything["recall_at_100"] == 1.0
    assert bounded["recall_at_10"] >= everything["recall_at_10"]
