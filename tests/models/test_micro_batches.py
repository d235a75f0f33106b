import copy
import shutil
from contextlib import contextmanager

import pytest
import torch

from models.make.configuration_make import preset_config
from models.make.modeling_make import MakeModel, MakeOutput
from models.make.objectives import ObjectiveSettings, PairMasks, TrainingBatch, make_loss
from models.training.computation import checkpoint_activations, compile_encoders
from models.training.micro_batches import EncoderInputs, cached_backward, micro_batches
from models.training.settings import TrainSettings
from tests.models.objectives.examples import facts_of

ITEMS, WORDS, PIECES = 7, 5, 3
ITEM_OF = torch.tensor([0, 0, 1, 2, 2, 2, 3, 5, 6, 6])  # product 4 has no query
OBJECTIVES = ObjectiveSettings(image_text_weight=0.3)


def vit(**overrides) -> MakeModel:
    """Without batch norm, in which a part of a batch would see other statistics than the whole."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "vocab_size": 1024, "image_height": 32, "image_width": 32}
    photos = {"image_backbone": "vit_tiny_patch16_224", "image_backbone_args": {"depth": 2, "embed_dim": 12}}
    return MakeModel(preset_config("tiny", **{**sizes, **photos, **overrides})).train()


def made_batch(pieces: int = PIECES) -> TrainingBatch:
    generator = torch.Generator().manual_seed(1)

    def ids(rows: int) -> torch.Tensor:
        return torch.randint(2, 1024, (rows, WORDS, pieces), generator=generator)

    queries, items = facts_of(ITEM_OF, ITEMS)
    none = torch.zeros(len(ITEM_OF), ITEMS, dtype=torch.bool)
    return TrainingBatch(
        query_ids=ids(len(ITEM_OF)),
        item_of=ITEM_OF,
        kinds=torch.zeros_like(ITEM_OF),
        title_ids=ids(ITEMS),
        title_shown=torch.ones(ITEMS, WORDS, dtype=torch.bool),
        pixels=torch.randint(0, 256, (ITEMS, 32, 32, 3), generator=generator, dtype=torch.uint8),
        has_image=torch.tensor([True, False, True, True, True, False, True]),
        masks=PairMasks(none, none, torch.ones_like(none, dtype=torch.int64)),
        queries=queries,
        items=items,
    )


def gradients(model: MakeModel, batch: TrainingBatch, size: int | None) -> dict[str, torch.Tensor]:
    """By micro-batches of a size, or of the whole batch by a plain backward."""

    def forward(inputs: EncoderInputs) -> MakeOutput:
        pixel_values = inputs.pixels.permute(0, 3, 1, 2) / 255
        return model(inputs.query_ids, inputs.title_ids, pixel_values, inputs.has_image)

    def loss_of(output: MakeOutput):
        return make_loss(output, batch, settings=OBJECTIVES, margin=0.1)

    model.zero_grad()
    if size is None:
        torch.manual_seed(3)
        loss, _ = loss_of(forward(*micro_batches(batch, len(batch))))
        loss.backward()
    else:
        parts = micro_batches(batch, size)
        cached_backward(parts, forward=forward, loss_of=loss_of, seed=3, unsynchronised=counted)
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


entered = []


@contextmanager
def counted():
    entered.append(True)
    yield


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_gradient_of_micro_batches_is_that_of_one_big_batch(size):
    model, batch = vit(), made_batch()
    expected, found = gradients(model, batch, None), gradients(model, batch, size)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert sum(gradient.abs().sum() for gradient in expected.values()) > 1


def test_both_forward_passes_drop_out_the_same():
    """One part, whose second pass dropped out otherwise, would have another gradient than the plain backward."""
    bert = {"text_encoder": "bert", "num_hidden_layers": 1, "hidden_dropout": 0.5}
    model, batch = vit(**bert), made_batch(pieces=1)
    expected, found = gradients(model, batch, None), gradients(model, batch, ITEMS)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_objectives_of_encoder_states_are_refused_in_parts():
    objectives = ObjectiveSettings(matching_weight=1.0)
    with pytest.raises(ValueError, match="matching_weight reads encoder states"):
        TrainSettings(training_set="set", output="", date="2026-11-15", micro_batch_size=8, objectives=objectives)


def test_only_the_last_part_averages_gradients_over_processes():
    entered.clear()
    gradients(vit(), made_batch(), 3)
    assert len(entered) == 2, "of three parts"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_encoders_have_the_same_gradients_and_weights_of_the_same_names(tmp_path):
    model, batch = vit(text_encoder="bert", num_hidden_layers=1), made_batch(pieces=1)
    expected, names = gradients(model, batch, None), model.state_dict().keys()
    compile_encoders(model)
    assert model.state_dict().keys() == copy.deepcopy(model).state_dict().keys() == names
    model.save_pretrained(tmp_path)
    assert MakeModel.from_pretrained(tmp_path).state_dict().keys() == names
    found = gradients(model, batch, None)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "resnet10t"])
def test_activations_computed_again_give_the_same_gradients(backbone):
    bert = {"text_encoder": "bert", "num_hidden_layers": 2, "hidden_dropout": 0.1, "image_backbone": backbone}
    narrow = {"channels": [8, 8, 8, 8], "stem_width": 8}
    photos = {"image_backbone_args": narrow} if backbone == "resnet10t" else {}
    model, batch = vit(**bert, **photos), made_batch(pieces=1)
    expected = gradients(model, batch, None)
    checkpoint_activations(model)
    assert [module.gradient_checkpointing for module in model.query_encoder.bert.encoder.layer] == [True, True]
    assert model.image_encoder.backbone.grad_checkpointing
    found = gradients(model, batch, None)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, atol=1e-6, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )
