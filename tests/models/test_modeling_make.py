import pytest
import torch

from models.make.configuration_make import preset_config
from models.make.frozen_gate import freeze_gate, watch_gate
from models.make.modeling_make import MakeModel
from models.make.processing_make import MakeProcessor

TITLES = ["Red dress for women", "Blue", "Puma men running shoes", "", "a b", "hat"]
QUERIES = ["red dress", "blue shirt", "shoes", "", "a", "hats"]
HAS_IMAGE = torch.tensor([True, False, True, True, False, True])

ABLATIONS = {
    "tiny": {},
    "one gate": {"gate_heads": 1},
    "larger training dimension": {"training_dim": 160},
    "cross-attention": {"cross_attention": True},
    "cross-attention, mean": {"cross_attention": True, "fusion": "mean"},
    "mean": {"fusion": "mean"},
    "concat": {"fusion": "concat"},
    "scalar": {"fusion": "scalar"},
    "late": {"fusion": "late"},
    "single stream": {"fusion": "single_stream"},
    "no image": {"use_image": False},
    "shared encoder": {"shared_text_encoder": True},
    "bert": {"text_encoder": "bert", "num_hidden_layers": 1, "cross_attention": True},
    "bert, shared": {"text_encoder": "bert", "num_hidden_layers": 1, "shared_text_encoder": True},
}
WITH_IMAGE = [name for name in ABLATIONS if name != "no image"]


def small_config(**overrides):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 2048, "image_height": 32, "image_width": 32}
    return preset_config("tiny", **{**sizes, **overrides})


def made(**overrides) -> tuple[MakeModel, dict]:
    torch.manual_seed(0)
    config = small_config(**overrides)
    processor = MakeProcessor.for_config(config, TITLES + QUERIES)
    model = MakeModel(config).eval()
    batch = {
        "query_ids": processor.pad(processor.tokenize_queries(QUERIES)),
        "title_ids": processor.pad(processor.tokenize_titles(TITLES)),
        "pixel_values": torch.randn(len(TITLES), 3, *processor.image_size),
        "has_image": HAS_IMAGE,
    }
    return model, batch


def item_arguments(batch: dict) -> dict:
    return {name: batch[name] for name in ("title_ids", "pixel_values", "has_image")}


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_ablation_gives_unit_vectors_and_weights_that_sum_to_one(ablation):
    model, batch = made(**ABLATIONS[ablation])
    output = model(**batch)
    for vectors in (output.query_embedding, output.item.embedding):
        assert vectors.shape == (6, model.config.training_dim or 128)
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(6))
    torch.testing.assert_close(output.item.weights.sum(dim=-1), torch.ones(6))
    without_photo = ~HAS_IMAGE if model.config.use_image else torch.ones(6, dtype=torch.bool)
    assert (output.item.weights[without_photo] == torch.tensor([1.0, 0.0])).all()


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_ablation_is_the_same_model_after_saving_and_loading(ablation, tmp_path):
    model, batch = made(**ABLATIONS[ablation])
    model.save_pretrained(tmp_path)
    loaded = MakeModel.from_pretrained(tmp_path).eval()
    before, after = model(**batch), loaded(**batch)
    assert torch.equal(before.item.embedding, after.item.embedding)
    assert torch.equal(before.query_embedding, after.query_embedding)
    assert loaded.config.to_diff_dict() == model.config.to_diff_dict()


@pytest.mark.parametrize("ablation", WITH_IMAGE)
def test_a_product_without_a_photo_is_bit_equal_whatever_pixels_stand_in(ablation):
    model, batch = made(**ABLATIONS[ablation])
    before = model.encode_items(**item_arguments(batch)).embedding
    for stand_in in (0.0, 1e30, float("nan"), float("inf")):
        batch["pixel_values"][~HAS_IMAGE] = stand_in
        assert torch.equal(model.encode_items(**item_arguments(batch)).embedding, before)


@pytest.mark.parametrize("ablation", WITH_IMAGE)
def test_a_photo_that_is_there_changes_the_vector(ablation):
    model, batch = made(**ABLATIONS[ablation])
    before = model.encode_items(**item_arguments(batch)).embedding
    batch["pixel_values"] = -batch["pixel_values"]
    changed = (model.encode_items(**item_arguments(batch)).embedding - before).abs().amax(dim=-1) > 0
    assert torch.equal(changed, HAS_IMAGE)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_vectors_without_photo_are_those_of_products_that_have_none(ablation):
    model, batch = made(**ABLATIONS[ablation])
    states = model.item_states(**item_arguments(batch))
    told = model.without_photo(states, model.fuse(states))
    expected = model.encode_items(**{**item_arguments(batch), "has_image": torch.zeros(6, dtype=torch.bool)}).embedding
    torch.testing.assert_close(told, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("photos", ["none", "some", "all"])
def test_gradients_are_finite_and_reach_every_weight(ablation, photos):
    model, batch = made(**ABLATIONS[ablation])
    batch["has_image"] = {"none": torch.zeros(6), "some": HAS_IMAGE, "all": torch.ones(6)}[photos].bool()
    batch["pixel_values"][~batch["has_image"]] = float("nan")
    output = model.train()(**batch)
    scores = output.query_embedding @ output.item.embedding.T / output.temperature
    torch.nn.functional.cross_entropy(scores, torch.arange(6)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} is outside the graph: data-parallel training would hang"
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_a_product_does_not_depend_on_the_products_beside_it(ablation):
    model, batch = made(**ABLATIONS[ablation])
    together = model.encode_items(**item_arguments(batch))
    for row in range(6):
        alone = model.encode_items(**{name: value[row : row + 1] for name, value in item_arguments(batch).items()})
        torch.testing.assert_close(alone.embedding[0], together.embedding[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.weights[0], together.weights[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("backbone", "height", "width"),
    [
        ("vit_tiny_patch16_224", 80, 64),
        ("swin_tiny_patch4_window7_224", 224, 224),
        ("vit_medium_patch16_rope_reg1_gap_256", 80, 64),
        ("eva02_tiny_patch14_224", 70, 56),
        ("convnext_atto", 80, 64),
    ],
)
def test_buffers_that_are_not_saved_come_back_for_every_kind_of_backbone(backbone, height, width, tmp_path):
    model, batch = made(
        image_backbone=backbone, image_backbone_args=None, image_height=height, image_width=width, vocab_size=1024
    )
    model.save_pretrained(tmp_path)
    loaded = MakeModel.from_pretrained(tmp_path).eval()
    buffers = dict(loaded.named_buffers())
    for name, buffer in model.named_buffers():
        assert torch.equal(buffers[name], buffer), name
    with torch.no_grad():
        before, after = (one.encode_items(**item_arguments(batch)).embedding for one in (model, loaded))
    assert torch.equal(before, after)


def test_each_head_of_the_gate_weighs_its_own_part_of_the_vector():
    model, batch = made(gate_heads=4)
    adaptation = model.modal_adaptation
    adapted = adaptation(*model.item_states(**item_arguments(batch)).to_tuple())
    for row in range(6):
        t, v = adapted.title[row], adapted.image[row]
        inner, activation, outer = adaptation.gate
        logits = outer(activation(inner(torch.cat([t, v, t * v])))).view(4, 2)
        photos = [logits[head].softmax(0)[1].item() if HAS_IMAGE[row] else 0.0 for head in range(4)]
        parts = [(1 - w) * t[8 * head : 8 * head + 8] + w * v[8 * head : 8 * head + 8] for head, w in enumerate(photos)]
        torch.testing.assert_close(adapted.fused[row], torch.cat(parts))
        assert adapted.weights[row, 1].item() == pytest.approx(sum(photos) / 4, abs=1e-6)
        assert len(set(photos)) == (4 if HAS_IMAGE[row] else 1)


def test_late_fusion_is_the_mean_of_what_title_and_photo_say_alone():
    model, batch = made(fusion="late")
    item = model.encode_items(**item_arguments(batch))
    mean = torch.nn.functional.normalize(item.title_embedding + item.image_embedding, dim=-1)
    torch.testing.assert_close(item.embedding[HAS_IMAGE], mean[HAS_IMAGE])
    torch.testing.assert_close(item.embedding[~HAS_IMAGE], item.title_embedding[~HAS_IMAGE])


def test_a_single_stream_lets_title_and_photo_read_each_other():
    model, batch = made(fusion="single_stream")
    batch["has_image"] = torch.ones(6, dtype=torch.bool)
    attended = []
    hook = model.modal_adaptation.layers[1].register_forward_hook(lambda _, given, __: attended.append(given[0]))
    model.encode_items(**item_arguments(batch))
    batch["pixel_values"] = -batch["pixel_values"]
    model.encode_items(**item_arguments(batch))
    hook.remove()
    title_tokens = batch["title_ids"].shape[1]
    assert (attended[0][:, :title_tokens] != attended[1][:, :title_tokens]).any(dim=-1).all()


@pytest.mark.parametrize("fusion", ["gate", "late"])
def test_of_a_larger_space_the_first_components_are_served(fusion):
    model, batch = made(training_dim=160, fusion=fusion)
    trained = model(**batch)
    served = [model.encode_queries(batch["query_ids"]), *model.encode_items(**item_arguments(batch)).to_tuple()]
    item = trained.item
    wide = [trained.query_embedding, item.embedding, item.weights, item.title_embedding, item.image_embedding]
    for found, of_training in zip(served, wide, strict=True):
        expected = of_training
        if of_training.shape[1] == 160:
            expected = torch.nn.functional.normalize(of_training[:, :128], dim=-1)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("cross_attention", [True, False])
def test_a_frozen_gate_gives_every_photo_one_weight_a_head_and_changes_nothing_else(cross_attention):
    model, batch = made(cross_attention=cross_attention, gate_heads=4)
    frozen = freeze_gate(model, torch.tensor([0.1, 0.2, 0.4, 0.5]))
    before, after = (one.encode_items(**item_arguments(batch)) for one in (model, frozen))
    expected = torch.where(HAS_IMAGE[:, None], torch.tensor([0.7, 0.3]), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(after.weights, expected)
    assert torch.equal(after.title_embedding, before.title_embedding)
    assert torch.equal(after.image_embedding, before.image_embedding)
    assert torch.equal(frozen.encode_queries(batch["query_ids"]), model.encode_queries(batch["query_ids"]))
    assert not torch.equal(after.embedding[HAS_IMAGE], before.embedding[HAS_IMAGE])
    assert torch.equal(after.embedding[~HAS_IMAGE], before.embedding[~HAS_IMAGE])


def test_only_a_gate_can_be_frozen():
    with pytest.raises(ValueError, match='expected a model of fusion="gate", got "mean"'):
        freeze_gate(made(fusion="mean")[0], torch.tensor([0.5]))
    with pytest.raises(ValueError, match=r"between 0 and 1, got \[0\.0\]"):
        freeze_gate(made()[0], torch.tensor([0.0]))


def test_a_watched_gate_tells_its_mean_over_the_photos_of_all_batches():
    model, batch = made(gate_heads=4)
    items = item_arguments(batch)
    photos = HAS_IMAGE.nonzero()[:, 0].tolist()
    with watch_gate(model) as alone:
        model.encode_items(**{name: value[photos[:1]] for name, value in items.items()})
    with watch_gate(model) as watched:
        for rows in ([0, 1, 2], [3, 4, 5]):
            model.encode_items(**{name: value[rows] for name, value in items.items()})
    every = model.encode_items(**items).weights[HAS_IMAGE, 1]
    assert watched.image_weights.shape == (4,)
    torch.testing.assert_close(watched.image_weights.mean(), every.double().mean())
    torch.testing.assert_close(alone.image_weights.mean(), every[0].double())
    assert alone.image_weights.unique().numel() == 4
    with watch_gate(model) as nothing:
        model.encode_items(**{name: value[~HAS_IMAGE] for name, value in items.items()})
    with pytest.raises(ValueError, match="no product with a photo"):
        _ = nothing.image_weights


def test_a_patch_that_would_drop_columns_is_refused():
    config = small_config(image_backbone="vit_tiny_patch16_224", image_backbone_args=None, image_width=60)
    with pytest.raises(ValueError, match=r"32x60 is no multiple of vit_tiny_patch16_224's patch 16x16"):
        MakeModel(config)


def test_weights_that_do_not_match_the_configuration_are_refused(tmp_path):
    model, _ = made()
    model.save_pretrained(tmp_path)
    model.config.fusion = "scalar"
    model.config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"weights and config\.json do not match.*image_logits"):
        MakeModel.from_pretrained(tmp_path)


def test_a_shared_encoder_is_one_module_with_one_set_of_weights():
    shared, _ = made(shared_text_encoder=True)
    assert shared.title_encoder is shared.query_encoder
    assert not any("own_title_encoder" in name for name in shared.state_dict())


def test_the_temperature_keeps_to_its_bounds():
    model, _ = made()
    for log_temperature, expected in ((-100.0, 0.05), (100.0, 0.5)):
        model.log_temperature.data.fill_(log_temperature)
        model.limit_temperature()
        assert model.temperature.item() == pytest.approx(expected)


@pytest.mark.parametrize(("beyond", "back"), [(-100.0, -1.0), (100.0, 1.0)])
def test_a_temperature_that_went_beyond_a_bound_can_come_back(beyond: float, back: float):
    model, _ = made()
    model.log_temperature.data.fill_(beyond)
    model.limit_temperature()
    bound = model.temperature.item()
    (back * model.temperature).backward()
    torch.optim.SGD([model.log_temperature], lr=1.0).step()
    assert (model.temperature.item() - bound) * back < 0, "the gradient reaches a parameter that stands at its bound"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hidden_size": 130}, "multiple of num_attention_heads"),
        ({"gate_heads": 24}, "multiple of gate_heads, got 256 and 24"),
        ({"training_dim": 128}, "training_dim must be larger than embedding_dim, got 128 and 128"),
        ({"temperature": 0.9}, "temperature_min <= temperature"),
        ({"fusion": "sum"}, "fusion"),
        ({"fusion": "late", "cross_attention": True}, 'fusion="late" has no cross-attention'),
        ({"colour": "red"}, "no field colour"),
    ],
)
def test_a_configuration_that_cannot_be_built_says_which_field(overrides, message):
    with pytest.raises(Exception, match=message):
        preset_config("tiny", **overrides)
    with pytest.raises(ValueError, match="unknown preset 'huge': expected one of base, small, tiny"):
        preset_config("huge")
