import math

import pytest
import torch

from models.make.modeling_make import MakeModel
from models.make.objectives import ObjectiveSettings, make_loss, mask_texts
from models.make.objectives.masked_language import mask_tokens, masked_language_loss
from models.make.processing_make import MakeProcessor
from tests.models.objectives.examples import batch, output
from tests.models.test_modeling_make import QUERIES, TITLES, small_config

BERT = {"text_encoder": "bert", "num_hidden_layers": 1, "masked_language_head": True}
PADDING, CLS, SEP, UNK, MASK = range(5)


def hidden(ids: torch.Tensor, *, share: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    words = torch.arange(5, 50)
    return mask_tokens(ids, ids >= 5, share=share, words=words, mask_id=MASK, generator=generator)


def test_tokens_are_hidden_as_bert_does_and_special_ones_never():
    ids = torch.full((4000, 12), 7)
    ids[:, 0], ids[:, 5], ids[:, 9], ids[:, 10:] = CLS, UNK, SEP, PADDING
    masked, chosen = hidden(ids, share=0.3)
    assert not chosen[ids < 5].any()
    assert torch.equal(masked[~chosen], ids[~chosen])
    assert chosen[ids >= 5].float().mean().item() == pytest.approx(0.31, abs=0.02)
    fates = masked[chosen]
    assert (fates == MASK).float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (fates == 7).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert fates[(fates != MASK) & (fates != 7)].unique().numel() > 40, "a word drawn from all of them"
    assert not ((fates < 5) & (fates != MASK)).any()


def test_every_text_that_has_a_word_hides_at_least_one():
    ids = torch.tensor([[CLS, 7, SEP, PADDING], [CLS, SEP, PADDING, PADDING], [CLS, 7, 8, SEP]])
    for seed in range(20):
        _, chosen = hidden(ids, share=1e-6, seed=seed)
        assert chosen.sum(dim=1).tolist() == [1, 0, 1]


def bert_batch(**changes) -> tuple[MakeModel, MakeProcessor, dict]:
    torch.manual_seed(0)
    config = small_config(**BERT, **changes)
    processor = MakeProcessor.for_config(config, TITLES + QUERIES)
    config.vocab_size = processor.vocab_size
    ids = {
        "query_ids": processor.pad(processor.tokenize_queries(QUERIES)),
        "title_ids": processor.pad(processor.tokenize_titles(TITLES)),
    }
    return MakeModel(config), processor, ids


def predictions(model, processor, ids):
    masked = mask_texts(batch(**ids), processor, share=0.15, generator=torch.Generator().manual_seed(0))
    pixels = torch.zeros(len(TITLES), 3, *processor.image_size)
    made = model(**ids, pixel_values=pixels, has_image=torch.zeros(len(TITLES), dtype=torch.bool), masked=masked)
    return made, masked


def test_the_loss_is_the_mean_surprise_at_the_tokens_that_were_hidden():
    model, processor, ids = bert_batch()
    made, masked = predictions(model.eval(), processor, ids)
    surprises = []
    for name, encoder in (("query", model.query_encoder), ("title", model.title_encoder)):
        head = encoder.masked_language_head
        for row, text in enumerate(ids[f"{name}_ids"]):
            shown = getattr(masked, f"{name}_ids")[row : row + 1]
            states = encoder(shown)[0][0]
            for place in getattr(masked, f"{name}_chosen")[row].nonzero().flatten().tolist():
                scores = head.transform(states[place]) @ encoder.bert.embeddings.word_embeddings.weight.T + head.bias
                surprises.append(-scores.log_softmax(0)[text[place, 0]].item())
    loss = masked_language_loss(made.token_logits, masked.targets)
    assert loss.item() == pytest.approx(sum(surprises) / len(surprises), rel=1e-4)
    assert loss.item() == pytest.approx(math.log(processor.vocab_size), rel=0.2), "a fresh model guesses"


def test_a_token_that_is_not_chosen_is_not_predicted_and_no_text_at_all_is_finite():
    model, processor, ids = bert_batch()
    _, masked = predictions(model, processor, ids)
    assert len(masked.targets) == masked.query_chosen.sum() + masked.title_chosen.sum()
    assert not processor.is_word(ids["title_ids"])[3].any()
    assert not masked.title_chosen[3].any(), "an empty title"
    nothing = {name: value[3:4, :2] for name, value in ids.items()}
    none = mask_texts(batch(**nothing), processor, share=0.15, generator=torch.Generator().manual_seed(0))
    loss = masked_language_loss(model._predict_tokens(none), none.targets)
    loss.backward()
    assert loss == 0
    assert all(torch.isfinite(p.grad).all() for p in model.title_encoder.masked_language_head.parameters())


@pytest.mark.parametrize("shared", [True, False])
def test_the_head_has_no_matrix_of_its_own_and_comes_back_from_a_saved_folder(tmp_path, shared):
    model, processor, ids = bert_batch(shared_text_encoder=shared)
    heads = [name for name in model.state_dict() if "masked_language_head" in name]
    assert len(heads) == 5 * (1 if shared else 2)
    assert sum(value.shape == (processor.vocab_size, 32) for value in model.state_dict().values()) == 2 - shared
    model.save_pretrained(tmp_path)
    loaded = MakeModel.from_pretrained(tmp_path)
    before, after = (predictions(one.eval(), processor, ids)[0] for one in (model, loaded))
    assert torch.equal(before.token_logits, after.token_logits)


def test_a_weight_of_zero_leaves_it_out_of_model_and_loss():
    assert not ObjectiveSettings().heads["masked_language_head"]
    assert ObjectiveSettings(masked_language_weight=0.1).heads["masked_language_head"]
    assert not any("masked_language" in name for name in MakeModel(small_config()).state_dict())
    assert "masked_language" not in make_loss(output(), batch(), settings=ObjectiveSettings(), margin=0.0)[1]


def test_words_that_do_not_see_each_other_are_refused_with_what_to_do():
    with pytest.raises(Exception, match=r"whose words do not see each other.*set masked_language_weight to 0"):
        small_config(masked_language_head=True)
