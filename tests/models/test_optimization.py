import copy

import pytest
import torch

from models.make.configuration_make import preset_config
from models.make.modeling_make import MakeModel
from models.training.optimization import (
    WeightAverage,
    learning_rate_share,
    make_optimizer,
    parameter_groups,
    set_learning_rate,
)
from models.training.resume import optimizer_tensors, restore_optimizer
from models.training.settings import TrainSettings

NARROW = {"layers": [1, 1, 1], "channels": [8, 8, 8], "stem_chs": 8}


def settings(**changes) -> TrainSettings:
    return TrainSettings(training_set="set", output="model", date="2026-11-15", **changes)


def transformers() -> MakeModel:
    """A two-layer BERT for queries, another for titles, and a two-block ViT."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "gate_heads": 2, "intermediate_size": 16, "vocab_size": 50}
    vit = {"depth": 2, "embed_dim": 8, "num_heads": 2}
    photos = {"image_backbone": "vit_tiny_patch16_224", "image_height": 32, "image_width": 32}
    text = {"text_encoder": "bert", "num_hidden_layers": 2}
    return MakeModel(preset_config("tiny", **sizes, **text, **photos, image_backbone_args=vit))


def by_name(groups: list[dict], key: str) -> dict[str, float]:
    return {name: group[key] for group in groups for name, _ in group["params"]}


def test_the_learning_rate_warms_up_then_falls_to_zero():
    shares = [learning_rate_share(progress / 100, warmup=0.1) for progress in range(101)]
    assert max(shares) == shares[10] == 1.0
    assert shares[:11] == sorted(shares[:11])
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[100] == pytest.approx(0, abs=1e-9)


def test_the_rate_falls_with_each_layer_towards_the_input_and_heads_have_the_full_one():
    model = transformers()
    shares = by_name(parameter_groups(model, settings(layer_decay=0.5)), "rate_share")
    for encoder in ("query_encoder", "own_title_encoder"):
        assert shares[f"{encoder}.bert.embeddings.word_embeddings.weight"] == 0.125
        assert shares[f"{encoder}.bert.encoder.layer.0.output.dense.weight"] == 0.25
        assert shares[f"{encoder}.bert.encoder.layer.1.output.dense.bias"] == 0.5
    backbone = "image_encoder.backbone"
    assert shares[f"{backbone}.pos_embed"] == shares[f"{backbone}.patch_embed.proj.weight"] == 0.125
    assert shares[f"{backbone}.blocks.0.attn.qkv.weight"] == 0.25
    assert shares[f"{backbone}.blocks.1.attn.qkv.weight"] == shares[f"{backbone}.norm.weight"] == 0.5
    heads = {name: share for name, share in shares.items() if ".bert." not in name and backbone not in name}
    assert heads.keys() >= {"image_encoder.project.weight", "query_projection.weight", "log_temperature"}
    assert set(heads.values()) == {1.0}
    assert set(by_name(parameter_groups(model, settings()), "rate_share").values()) == {1.0}


def test_norms_biases_embeddings_and_temperature_do_not_decay():
    model = transformers()
    decays = by_name(parameter_groups(model, settings(weight_decay=0.1, layer_decay=0.5)), "weight_decay")
    assert decays.keys() == dict(model.named_parameters()).keys()
    free = {name for name, decay in decays.items() if decay == 0}
    embeddings = {name for name in decays if "_embeddings.weight" in name or name.endswith(("pos_embed", "cls_token"))}
    assert free == embeddings | {name for name, parameter in model.named_parameters() if parameter.ndim < 2}


def test_an_optimiser_with_a_rate_for_each_layer_goes_on_from_its_tensors():
    torch.manual_seed(0)
    models = [transformers(), transformers()]
    optimizers = [make_optimizer(model, settings(layer_decay=0.7)) for model in models]

    def step(model: MakeModel, optimizer: torch.optim.Optimizer, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        set_learning_rate(optimizer, 0.01)
        optimizer.step()

    step(models[0], optimizers[0], 1)
    models[1].load_state_dict(models[0].state_dict())
    restore_optimizer(optimizers[1], copy.deepcopy(optimizer_tensors(optimizers[0])))
    for model, optimizer in zip(models, optimizers, strict=True):
        step(model, optimizer, 2)
    for name, parameter in models[0].named_parameters():
        assert torch.equal(parameter, models[1].get_parameter(name)), name


def test_averaged_weights_are_the_weighted_sum_of_all_steps_and_counters_are_copied():
    torch.manual_seed(0)
    model = MakeModel(preset_config("tiny", vocab_size=1024, hidden_size=8, gate_heads=2, image_backbone_args=NARROW))
    average = WeightAverage(model, 0.9)
    expected = {name: tensor.double() for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    for step in range(1, 21):
        for tensor in model.state_dict().values():
            tensor += torch.randn_like(tensor) if tensor.is_floating_point() else 1
        average.update(model, step)
        kept = min(0.9, (1 + step) / (10 + step))
        expected = {name: kept * was + (1 - kept) * model.state_dict()[name] for name, was in expected.items()}
    averaged = average.model.state_dict()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(averaged[name], expected[name].float(), msg=name)
        else:
            assert torch.equal(averaged[name], tensor), name
    assert any("running_mean" in name for name in expected), "batch norm's statistics are averaged too"
