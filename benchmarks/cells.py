"""The cells of the ablation table: each says in what a model, or its training, differs from the full one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FULL = "full"
# What the full model has to beat, as was laid down before anything was trained: lexical search, text alone, the photo
# averaged in, and text and photo each on its own.
RIVALS = ("BM25", "no image", "mean", "late fusion")


@dataclass(frozen=True)
class Cell:
    """One row of the table.

    Args:
        model: Fields of `MakeConfig` that differ from the preset `tiny`.
        objectives: Fields of `ObjectiveSettings` that differ from their defaults.
        training: Other fields of `TrainSettings` that differ from their defaults.
    """

    name: str
    model: dict[str, Any] = field(default_factory=dict)
    objectives: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


_BERT = {"text_encoder": "bert", "num_hidden_layers": 3}
_IMAGE_TEXT = {"image_text_weight": 0.5}
_NEIGHBORS = {"neighbor_positive_weight": 0.5}

CELLS = (
    # The preset as it is: gate, no cross-attention, Keyword Enhancement (a).
    Cell(FULL),
    # Without the photo a text-only two-tower model is left.
    Cell("no image", model={"use_image": False}),
    Cell("mean", model={"fusion": "mean"}),
    Cell("cross-attention + gate", model={"cross_attention": True}),
    Cell("cross-attention + mean", model={"cross_attention": True, "fusion": "mean"}),
    Cell("one gate for the whole vector", model={"gate_heads": 1}),
    Cell("concat", model={"fusion": "concat"}),
    Cell("scalar", model={"fusion": "scalar"}),
    Cell("late fusion", model={"fusion": "late"}),
    Cell("single stream", model={"fusion": "single_stream"}),
    # Align before fusing, then fuse by cross-attention, as ALBEF does.
    Cell("ALBEF-style", model={"cross_attention": True, "fusion": "mean"}, objectives=_IMAGE_TEXT),
    Cell("image-text contrast", objectives=_IMAGE_TEXT),
    Cell("words of a title without context", model={"word_context": False}),
    Cell("shared text encoder", model={"shared_text_encoder": True}),
    Cell("Keyword Enhancement: neither", objectives={"neighbor_mask": False}),
    Cell("Keyword Enhancement: (b) alone", objectives={"neighbor_mask": False, **_NEIGHBORS}),
    Cell("Keyword Enhancement: (a) and (b)", objectives=_NEIGHBORS),
    Cell("no contrast of queries with photos", objectives={"query_photo_weight": 0.0}),
    Cell("no contrast of queries with titles", objectives={"query_title_weight": 0.0}),
    Cell("popularity not matched", objectives={"match_popularity": False}),
    Cell("photos neither mirrored nor cropped", training={"flip_photos": 0.0, "crop_photos": 0.0}),
    Cell("no photo swapped", training={"swap_photos": 0.0}),
    Cell("no title stuffed", training={"stuff_titles": 0.0}),
    Cell("no title and no word withheld", training={"title_dropout": 0.0, "title_word_dropout": 0.0}),
    Cell("no photo withheld", training={"photo_dropout": 0.0}),
    Cell("withheld to the end", training={"plain_share": 0.0}),
    Cell("products drawn one by one", training={"group_rows": 1}),
    Cell("no made queries", training={"pseudo_queries": 0}),
    Cell("no made query mistyped", training={"pseudo_query_typos": 0.0}),
    Cell("temperature down to .01", model={"temperature_min": 0.01}),
    Cell("half as wide", model={"hidden_size": 128}),
    Cell("trained in 256 dimensions", model={"training_dim": 256}),
    Cell("margin of .1", model={"margin": 0.1}),
    Cell("averaged weights", training={"ema_decay": 0.99}),
    Cell("lower rates for lower layers", training={"layer_decay": 0.8}),
    Cell("memory bank", objectives={"bank_items": 4096}),
    Cell("matching head", objectives={"matching_weight": 0.5}),
    Cell("BERT-style text", model=_BERT),
    # The rate of the defaults was found with subwords.
    Cell("BERT-style text at a quarter of the rate", model=_BERT, training={"learning_rate": 5e-4}),
    # To be read beside the one above: subwords have no masked language modelling.
    Cell("BERT-style text + masked words", model=_BERT, objectives={"masked_language_weight": 0.5}),
)
