"""What the model is fed is the same whether Petastorm's rows train it or the inference UDF serves with it."""

import pandas as pd
import pytest
import torch

from jobs.embedding.inference import Seconds, embed_item_batches
from models.training.distributed import joined_process
from models.training.trainer import Trainer
from tests.models.conftest import training_rows
from tests.models.test_trainer import SMALL, settings

NOTHING_VARIED = dict.fromkeys(
    ("title_dropout", "title_word_dropout", "photo_dropout", "flip_photos", "crop_photos", "swap_photos"), 0.0
) | {"stuff_titles": 0.0, "pseudo_queries": 0}


@pytest.mark.parametrize("cache_mb", [0, 16])
@pytest.mark.parametrize("text_encoder", ["subwords", "bert"])
def test_training_and_serving_feed_the_model_the_same_tensors(
    training_set, tmp_path, monkeypatch, text_encoder, cache_mb
):
    """Two rows have a photo that does not decode, or none."""
    overrides = {**SMALL, "text_encoder": text_encoder}
    chosen = settings(
        training_set, tmp_path, overrides=overrides, batch_size=96, shuffle_rows=96, cache_mb=cache_mb, **NOTHING_VARIED
    )
    trained, served = {}, {}
    with joined_process() as process:
        trainer = Trainer(chosen, process)
        for epoch in range(2):  # the second reads what the first kept
            (batch,) = trainer.data.epoch(epoch, last=epoch == 1)
        hook = trainer.model.register_forward_pre_hook(
            lambda _, positional, named: trained.update(named), with_kwargs=True
        )
        trainer.step(batch, number=0, progress=0.0)
        hook.remove()

    encoder = trainer.encoder
    model = encoder.model.eval()
    item_states, encode_queries = model.item_states, model.encode_queries

    def watched_items(title_ids, pixel_values, has_image):
        served.update(title_ids=title_ids, pixel_values=pixel_values, has_image=has_image)
        return item_states(title_ids, pixel_values, has_image)

    def watched_queries(query_ids):
        served.update(query_ids=query_ids)
        return encode_queries(query_ids)

    monkeypatch.setattr(model, "item_states", watched_items)
    monkeypatch.setattr(model, "encode_queries", watched_queries)
    by_key = {row["item_key"]: row for row in training_rows()}
    rows = [by_key[key] for key in batch.items.item_keys.tolist()]
    (embedded,) = embed_item_batches([pd.DataFrame(rows)[["title", "photo"]]], encoder, Seconds())
    encoder.embed_queries([query for row in rows for query in row["queries"]])

    assert sorted(set(embedded.image_status)) == ["broken", "missing", "ok"]
    assert sorted(served) == ["has_image", "pixel_values", "query_ids", "title_ids"]
    for name, tensor in served.items():
        torch.testing.assert_close(trained[name], tensor, atol=1e-5, rtol=0, msg=name)
