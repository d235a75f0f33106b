"""Encoders that others have trained: what a configuration takes from them, and how their weights get into a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_data_config
from torch import nn
from transformers import AutoConfig, AutoTokenizer, BertModel, PreTrainedTokenizerFast

from models.make.configuration_make import MakeConfig

# Fields of MakeConfig that a BERT decides, and fields of BertConfig that MakeConfig has no name for.
_TEXT_FIELDS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_FURTHER_TEXT_FIELDS = ("hidden_act", "layer_norm_eps", "type_vocab_size")
_POSITIONS = "embeddings.position_embeddings.weight"


def config_of_backbones(config: MakeConfig, *, text: str | None = None, image: str | None = None) -> MakeConfig:
    """The configuration with the dimensions that pretrained backbones have; all else stays as it is.

    Args:
        text: a BERT's folder or name, with its tokenizer.
        image: a timm name, or a checkpoint file of the backbone that the configuration names.

    Raises:
        ValueError: the text backbone is no BERT or too short, or the configuration has no encoder of that kind.
    """
    taken: dict[str, Any] = {}
    if text is not None:
        taken |= _fields_of_bert(config, text)
    if image is not None and not config.use_image:
        raise ValueError(f"use_image is off, so that there is no encoder for {image}: train without it.")
    if image is not None and not Path(image).is_file():
        taken |= {"image_backbone": image, "image_backbone_args": None}
    return MakeConfig(**{**{name: getattr(config, name) for name in MakeConfig.__annotations__}, **taken})


def _fields_of_bert(config: MakeConfig, source: str) -> dict[str, Any]:
    if config.text_encoder != "bert":
        raise ValueError(f'text_encoder is "{config.text_encoder}", which {source} cannot begin: set it to "bert".')
    found = AutoConfig.from_pretrained(source)
    if found.model_type != "bert":
        raise ValueError(f"{source} is a {found.model_type} model: expected a BERT.")
    longest = max(config.query_max_tokens, config.title_max_tokens)
    if found.max_position_embeddings < longest:
        raise ValueError(
            f"{source} has {found.max_position_embeddings} positions for texts of {longest} tokens: "
            "lower query_max_tokens and title_max_tokens."
        )
    padding_id = pretrained_tokenizer(source).pad_token_id
    further = {name: getattr(found, name) for name in _FURTHER_TEXT_FIELDS}
    return {
        **{name: getattr(found, name) for name in _TEXT_FIELDS},
        "text_backbone_args": {**further, "pad_token_id": padding_id},
    }


def pretrained_tokenizer(source: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a pretrained text backbone, with its own vocabulary and special tokens.

    Raises:
        ValueError: it lacks a special token that the model reads.
    """
    tokenizer = AutoTokenizer.from_pretrained(source)
    special = {
        name: getattr(tokenizer, name) for name in ("pad_token", "cls_token", "sep_token", "unk_token", "mask_token")
    }
    lacking = [name for name, token in special.items() if token is None]
    if lacking:
        raise ValueError(f"the tokenizer of {source} has no {', '.join(lacking)}: expected that of a BERT.")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **special)


def photo_transform(config: MakeConfig) -> dict[str, Any]:
    """What a timm backbone expects of photos, as arguments of `MakeProcessor`."""
    expected = resolve_data_config(model=create_backbone(config))
    return {
        "image_mean": expected["mean"],
        "image_std": expected["std"],
        "interpolation": expected["interpolation"],
    }


def create_backbone(config: MakeConfig, **pretrained: Any) -> nn.Module:
    """The timm backbone that a configuration names, without its classifier.

    Args:
        pretrained: timm's arguments that say which weights are loaded; none: freshly initialised.

    Raises:
        ValueError: the backbone would drop rows or columns of the photo because its patch does not divide the size.
    """
    size = (config.image_height, config.image_width)
    settings = {"num_classes": 0, **(config.image_backbone_args or {}), **pretrained}
    try:
        backbone = timm.create_model(config.image_backbone, img_size=size, **settings)
    except TypeError:  # convolutional networks take any size and refuse the argument
        backbone = timm.create_model(config.image_backbone, **settings)
    patch_size = getattr(getattr(backbone, "patch_embed", None), "patch_size", (1, 1))
    if any(pixels % patch for pixels, patch in zip(size, patch_size, strict=True)):
        raise ValueError(
            f"image size {size[0]}x{size[1]} is no multiple of {config.image_backbone}'s patch "
            f"{patch_size[0]}x{patch_size[1]}: pixels at the edge would be dropped. Choose another size or patch."
        )
    return backbone


def load_text_backbone(bert: BertModel, source: str) -> None:
    """Put a pretrained BERT's weights into an encoder, and of its positions as many as the encoder has.

    Raises:
        ValueError: the source lacks weights.
    """
    pretrained, report = BertModel.from_pretrained(source, add_pooling_layer=False, output_loading_info=True)
    if report["missing_keys"]:
        raise ValueError(f"{source} lacks weights of a BERT: {', '.join(sorted(report['missing_keys']))}.")
    weights = pretrained.state_dict()
    weights[_POSITIONS] = weights[_POSITIONS][: bert.config.max_position_embeddings]
    bert.load_state_dict(weights)


def load_image_backbone(backbone: nn.Module, config: MakeConfig, source: str) -> None:
    """Put pretrained weights into a backbone; timm adapts them to the image size.

    Args:
        source: a timm name, which the configuration has too, or a checkpoint file.

    Raises:
        ValueError: weights of the backbone are not in the source, which timm would leave random.
    """
    overlay = {"pretrained_cfg_overlay": {"file": source}} if Path(source).is_file() else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random = create_backbone(config).state_dict()
        torch.manual_seed(0)
        pretrained = create_backbone(config, pretrained=True, **overlay).state_dict()
    left = [name for name, tensor in pretrained.items() if tensor.ndim > 1 and tensor.equal(random[name])]
    if left:
        raise ValueError(f"{source} lacks weights of {config.image_backbone}: {', '.join(left)}.")
    backbone.load_state_dict(pretrained)
