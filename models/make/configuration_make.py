"""The configuration of MAKE: every dimension and every ablation is one field."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class MakeConfig(PreTrainedConfig):
    """Dimensions and switches of a MAKE model.

    The switches are the ablations: `use_image`, `cross_attention`, `fusion`, `shared_text_encoder`, `text_encoder`.
    """

    model_type = "make"

    # Text.  "subwords": a bag of hashed words and character grams, pooled by attention; "bert": a transformer.
    text_encoder: Literal["subwords", "bert"] = "subwords"
    shared_text_encoder: bool = False  # one encoder for queries and titles instead of two
    vocab_size: int = 32768  # hash buckets of "subwords"; the largest WordPiece vocabulary of "bert"
    pieces_per_word: int = 24  # "subwords" only: ids that one word may have
    word_context: bool = True  # "subwords" only: words of a title see their place and each other
    hidden_size: int = 128
    num_hidden_layers: int = 6  # "bert" only
    num_attention_heads: int = 4
    intermediate_size: int = 512
    hidden_dropout: float = 0.0
    text_backbone_args: dict[str, Any] | None = None  # "bert" only: further fields of BertConfig
    query_max_tokens: int = 32
    title_max_tokens: int = 64

    # Image.
    use_image: bool = True
    image_backbone: str = "resnetv2_18"  # any timm name
    image_backbone_args: dict[str, Any] | None = None  # further arguments of timm.create_model
    image_height: int = 80  # pixels, of what the backbone reads
    image_width: int = 64

    # Modal Adaptation.
    cross_attention: bool = True
    fusion_layers: int = 2
    # "late" averages the two projected vectors; "single_stream" is one transformer over title tokens and patches.
    fusion: Literal["gate", "mean", "concat", "scalar", "late", "single_stream"] = "gate"
    gate_heads: int = 1  # "gate" and "scalar" only: equal parts of the vector, each with weights of its own
    embedding_dim: int = 128  # of the vectors that are served
    training_dim: int | None = None  # of a larger space, trained alike, whose first components are what is served

    # Heads that only training reads; it sets them, by the weights of its objectives.
    masked_language_head: bool = False
    matching_head: bool = False

    # The similarity.
    temperature: float = 0.07  # where training starts; learnt, and clamped to the two bounds below
    temperature_min: float = 0.05  # sharper, a long training pushes apart what no click has told to be alike
    temperature_max: float = 0.5
    margin: float = 0.0  # subtracted from the positive's cosine in training

    initializer_range: float = 0.02

    def validate_architecture(self) -> None:
        """Refuse what cannot be built, and what would silently drop pixels.

        Raises:
            ValueError: naming the field, what was expected and what came.
        """
        super().validate_architecture()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                "hidden_size must be a multiple of num_attention_heads, got "
                f"{self.hidden_size} and {self.num_attention_heads}."
            )
        if self.fusion in ("gate", "scalar") and self.hidden_size % self.gate_heads:
            raise ValueError(
                f"hidden_size must be a multiple of gate_heads, got {self.hidden_size} and {self.gate_heads}."
            )
        if self.training_dim is not None and self.training_dim <= self.embedding_dim:
            raise ValueError(
                f"training_dim must be larger than embedding_dim, got {self.training_dim} and {self.embedding_dim}: "
                "leave it out to train the vectors that are served alone."
            )
        if not 0 < self.temperature_min <= self.temperature <= self.temperature_max:
            raise ValueError(
                "expected 0 < temperature_min <= temperature <= temperature_max, got "
                f"{self.temperature_min}, {self.temperature}, {self.temperature_max}."
            )
        if self.cross_attention and self.fusion in ("late", "single_stream"):
            raise ValueError(f'fusion="{self.fusion}" has no cross-attention: set cross_attention=False with it.')
        if self.masked_language_head and self.text_encoder != "bert":
            raise ValueError(
                f'masked language modelling needs text_encoder="bert", got "{self.text_encoder}", whose words do not '
                "see each other, so that nothing tells what a masked one was: set masked_language_weight to 0."
            )
        if self.text_encoder == "subwords" and self.vocab_size < 1024:
            raise ValueError(f"vocab_size (hash buckets) must be at least 1024, got {self.vocab_size}.")


PRESETS: dict[str, dict[str, Any]] = {
    # Trains from scratch on two CPU cores in minutes.
    "tiny": {
        "hidden_size": 256,
        # Three stages, the last of 3x3 cells: over the 2x2 of a fourth a CPU's convolutions take longer than all else.
        "image_backbone": "resnetv2_18",
        "image_backbone_args": {"layers": [1, 1, 1], "channels": [32, 64, 128], "stem_chs": 32},
        "image_height": 48,
        "image_width": 40,
        "cross_attention": False,
        "gate_heads": 16,
    },
    # One GPU, from scratch: short transformers over WordPiece, a small convolutional network over the photo.
    "small": {
        "text_encoder": "bert",
        "hidden_size": 256,
        "num_hidden_layers": 3,
        "intermediate_size": 1024,
        "hidden_dropout": 0.1,
        "image_backbone": "resnet18",
        "image_height": 128,
        "image_width": 128,
        "gate_heads": 16,
    },
    # The dimensions that docs/make.md reconstructs from the paper.
    "base": {
        "text_encoder": "bert",
        "hidden_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_dropout": 0.1,
        "image_backbone": "vit_base_patch16_224",
        "image_height": 224,
        "image_width": 224,
        "gate_heads": 16,
    },
}


def preset_config(name: str, **overrides: Any) -> MakeConfig:
    """The configuration of a preset, with single fields replaced.

    Raises:
        ValueError: unknown preset or field.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}: expected one of {', '.join(sorted(PRESETS))}.")
    unknown = sorted(set(overrides) - set(MakeConfig.__dataclass_fields__))
    if unknown:
        raise ValueError(f"MakeConfig has no field {', '.join(unknown)}: see models/make/configuration_make.py.")
    return MakeConfig(**{**PRESETS[name], **overrides})


__all__ = ["PRESETS", "MakeConfig", "preset_config"]
