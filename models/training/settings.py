"""What a training run can be told, and what it reports; both are JSON, so that they cross into other processes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from models.make.objective_settings import ObjectiveSettings


class TrainSettings(BaseModel, extra="forbid"):
    """One training run."""

    training_set: str = Field(
        description="Folder of a training set, as fsspec names it: train/, two validation splits, items.parquet, "
        "texts.parquet."
    )
    output: str = Field(description="The model folder to write.")
    date: dt.date = Field(description="Logical date, part of the model version.")
    preset: str = Field("tiny", description="A preset of models/make/configuration_make.py.")
    overrides: dict[str, Any] = Field(
        default_factory=dict, description="Fields of MakeConfig that differ from the preset."
    )

    pretrained_text: str | None = Field(
        None, description="Folder or name of a BERT that queries and titles begin with, its tokenizer included."
    )
    pretrained_image: str | None = Field(
        None, description="timm name of a pretrained backbone, or a checkpoint file of the preset's."
    )

    epochs: int = Field(20, ge=1, description="Passes over the training split, at most.")
    max_steps: int | None = Field(None, ge=1, description="Steps after which training ends; None: all epochs.")
    max_minutes: float | None = Field(
        None, gt=0, description="Wall clock after which no step begins; None: all epochs."
    )
    validations: int = Field(4, ge=1, description="Times that held-out clicks are searched for, the end included.")
    validation_items: int = Field(
        8192, ge=1, description="Items searched: all that are relevant, filled up with others of the pool."
    )
    patience: int | None = Field(
        None, ge=1, description="Validations in a row without a better score that end training; None: none do."
    )
    batch_size: int = Field(
        512, ge=2, description="Products a step and process; the last steps of an epoch share out what is left of it."
    )
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        description="Products that go through the encoders at once; the loss still contrasts the batch. None: all.",
    )
    pseudo_queries: int = Field(1, ge=0, description="Queries made of a product's own words, beside the log's.")
    pseudo_query_typos: float = Field(0.05, ge=0, le=1, description="Share of those queries that have a typo.")
    learning_rate: float = Field(2e-3, gt=0, description="Peak; reached after the warm-up, then a cosine to 0.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Share of training that warms up.")
    weight_decay: float = Field(
        0.01, ge=0, description="Of matrices; norms, biases, embeddings and temperature have none."
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Factor of the learning rate from a transformer's or backbone's layer to that below.",
    )
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="Share that a step keeps of the averaged weights, which are what is saved; 0: off."
    )
    clip_norm: float = Field(1.0, gt=0, description="Largest norm of a step's gradient.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Of the encoders in training; auto: bfloat16 where the hardware multiplies it natively."
    )
    checkpoint_activations: bool = Field(
        False, description="Compute the layers' activations again in the backward pass instead of keeping them."
    )
    compile: bool = Field(False, description="Compile transformers and photo encoder with torch.compile.")
    objectives: ObjectiveSettings = Field(default_factory=ObjectiveSettings)

    title_dropout: float = Field(0.15, ge=0, lt=1, description="Share of titles withheld, of products with a photo.")
    title_word_dropout: float = Field(0.1, ge=0, lt=1, description="Share of title words withheld.")
    photo_dropout: float = Field(0.1, ge=0, lt=1, description="Share of photos withheld.")
    flip_photos: float = Field(0.5, ge=0, le=1, description="Share of photos mirrored left to right.")
    crop_photos: float = Field(
        0.3, ge=0, lt=1, description="Largest share of a photo's height, and of its width, that is cut off at random."
    )
    swap_photos: float = Field(0.05, ge=0, le=1, description="Share of photos that are another product's.")
    stuff_titles: float = Field(0.15, ge=0, le=1, description="Share of titles that get words of other titles.")
    plain_share: float = Field(0.2, ge=0, le=1, description="Last share of training, which withholds nothing.")

    checkpoint_folder: str | None = Field(
        None, description="Where an unfinished run is kept, as fsspec names it, and goes on from; None: nowhere."
    )
    checkpoint_minutes: float = Field(5.0, ge=0, description="Minutes from one checkpoint to the next.")

    seed: int = Field(0, ge=0)
    group_rows: int = Field(
        8, ge=1, description="Products drawn together because they share a word, which makes hard negatives; 1: none."
    )
    shuffle_rows: int = Field(4096, ge=1, description="Rows that are mixed with each other.")
    num_workers: int = Field(2, ge=1, description="Threads a process that decode photos.")
    cache_mb: int = Field(
        1024, ge=0, description="MiB a process for decoded photos and tokens, kept from epoch to epoch."
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads a process computes with; None shares the machine's."
    )
    progress_file: str | None = Field(None, description="JSON lines: a line every few steps and each validation.")
    tensorboard_folder: str | None = Field(None, description="The same lines as TensorBoard's event files.")
    progress_every: int = Field(10, ge=1, description="Steps between lines of progress.")

    @model_validator(mode="after")
    def _refuse_heads_in_parts(self) -> Self:
        heads = {"matching_weight": self.objectives.matching_weight}
        heads["masked_language_weight"] = self.objectives.masked_language_weight
        weighing = [name for name, weight in heads.items() if weight]
        if self.micro_batch_size is not None and weighing:
            raise ValueError(
                f"micro_batch_size goes with objectives of vectors alone, and {' and '.join(weighing)} reads encoder "
                "states, which are not kept: set it to 0, or micro_batch_size to None."
            )
        return self


# What may differ between a killed run and the one that goes on.
NOT_OF_THE_RUN = {
    "output",
    "progress_file",
    "tensorboard_folder",
    "progress_every",
    "checkpoint_folder",
    "checkpoint_minutes",
    "threads",
    "cache_mb",
}

# What has no default, so that it differs in every run.
_OF_EVERY_RUN = ("training_set", "output", "date")


class TrainResult(BaseModel):
    """What a training run gave; the same on every rank."""

    model_version: str
    weights_digest: str
    preprocessing_digest: str
    metrics: dict[str, float]


def settings_that_differ(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that are not the defaults, by name; nested ones as `objectives.query_photo_weight`.

    Args:
        settings: `TrainSettings` as JSON holds it, or part of it; also of an earlier release.
    """
    usual = _flat(TrainSettings(training_set="", output="", date=dt.date.min).model_dump(mode="json"))
    return {
        name: value
        for name, value in _flat(settings).items()
        if name not in _OF_EVERY_RUN and (name not in usual or value != usual[name])
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
