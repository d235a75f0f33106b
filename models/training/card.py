"""The model card: what a person should know who finds the folder."""

from models.make.configuration_make import MakeConfig
from models.training.settings import TrainSettings

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

Training set `{training_set}`, {steps:,.0f} steps of {batch_size} rows and process, seed {seed}.

| figure | value |
|---|---|
{figures}

`validation_*` were measured on products and attribute combinations that were held out of training and that selected
this checkpoint, so they flatter it a little.  Judge a model by queries that selected nothing.

## Limits

It knows the words, typos and photos of its training window.  A vector is comparable with vectors of this version only.
"""


def model_card(config: MakeConfig, settings: TrainSettings, metrics: dict[str, float]) -> str:
    """The card as Markdown."""
    texts = {"subwords": "a bag of hashed words and character grams", "bert": "BERT-style text encoders"}
    image = f"photos of {config.image_height}x{config.image_width} pixels through `{config.image_backbone}`"
    return CARD.format(
        date=settings.date,
        dim=config.embedding_dim,
        preset=settings.preset,
        text=texts[config.text_encoder] + (", one for queries and titles" if config.shared_text_encoder else ""),
        image=image if config.use_image else "no photos",
        fusion=config.fusion,
        cross_attention=" after cross-attention" if config.cross_attention else "",
        training_set=settings.training_set.rstrip("/").rsplit("/", 1)[-1],
        steps=metrics["steps"],
        batch_size=settings.batch_size,
        seed=settings.seed,
        figures="\n".join(f"| {name} | {value:.4g} |" for name, value in metrics.items()),
    )
