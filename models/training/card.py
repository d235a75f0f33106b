"""The model card: what a person should know who finds the folder."""

from __future__ import annotations

from collections.abc import Mapping

from models.make.configuration_make import MakeConfig
from models.training.settings import NOT_OF_THE_RUN, TrainSettings, settings_that_differ

CARD = """---
library_name: transformers
tags: [multimodal, product-retrieval, make]
---

# MAKE, trained {date}

Product and query vectors for retrieval: {dim} floats of unit norm; the product of the two is the score.

```python
from models.encoder import Encoder

encoder = Encoder.from_folder("this folder")
items = encoder.embed_items(encoder.prepare_items(["Red summer dress"], [photo_bytes]))
scores = encoder.embed_queries(["red dress"]) @ items.embedding.T
```

`manifest.json` names the version and the SHA-256 of every file; `Encoder.from_folder` checks them.

## Model

Preset `{preset}`: {text}; {image}; fusion `{fusion}`{cross_attention}.

## Training

| | |
|---|---|
| training set | `{training_set}`, {rows:,} products |
| logical date | {date} |
| steps | {steps:,.0f}, of {batch_size:,} products a process |
| products seen | {rows_read:,.0f} in whole passes |
| seed | {seed} |
| code revision | {revision} |

Settings that are not the defaults: {settings}.

| figure | value |
|---|---|
{figures}

`validation_*` were measured on products and attribute combinations that were held out of training and that selected
this checkpoint, so they flatter it a little.  Judge a model by queries that selected nothing.

## Limits

It knows the words, typos and photos of its training window.  A vector is comparable with vectors of this version only.
"""


def model_card(
    config: MakeConfig,
    settings: TrainSettings,
    metrics: Mapping[str, float],
    *,
    train_rows: int,
    code_revision: str | None = None,
) -> str:
    """The card as Markdown, from nothing but what the run itself knows.

    Args:
        config: The model's.
        settings: The run's.
        metrics: The run's figures by name; steps and rows_read among them.
        train_rows: Products of the training split.
        code_revision: Of this project, where it is known.
    """
    texts = {"subwords": "a bag of hashed words and character grams", "bert": "BERT-style text encoders"}
    image = f"photos of {config.image_height}x{config.image_width} pixels through `{config.image_backbone}`"
    own = settings_that_differ(settings.model_dump(mode="json", exclude=NOT_OF_THE_RUN))
    return CARD.format(
        date=settings.date,
        dim=config.embedding_dim,
        preset=settings.preset,
        text=texts[config.text_encoder] + (", one for queries and titles" if config.shared_text_encoder else ""),
        image=image if config.use_image else "no photos",
        fusion=config.fusion,
        cross_attention=" after cross-attention" if config.cross_attention else "",
        training_set=settings.training_set.rstrip("/").rsplit("/", 1)[-1],
        rows=train_rows,
        steps=metrics["steps"],
        rows_read=metrics["rows_read"],
        batch_size=settings.batch_size,
        seed=settings.seed,
        revision=f"`{code_revision}`" if code_revision else "not known",
        settings=", ".join(f"`{name}={value}`" for name, value in own.items()) or "none",
        figures="\n".join(f"| {name} | {value:.4g} |" for name, value in metrics.items()),
    )
