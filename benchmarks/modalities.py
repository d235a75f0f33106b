"""Whether a model's gate tells photos that show the product from those that do not, and stuffed titles from plain ones.

    python -m benchmarks.modalities --models lake/models/<version> --catalog catalog.parquet --images images.parquet

Several models, as trained with several seeds, are measured together: each area is the mean of theirs.

`labels/products.csv` says what 600 products' photos and titles are: of the products with a photo, in order of item_id,
those that `numpy.random.default_rng(20261121).choice(products, 600, replace=False)` draws, labelled by eye without a
look at any model's weights.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.judged import read_catalog
from benchmarks.options import read_options
from jobs.core.options import CommaSeparated, JobOptions
from models.encoder import Encoder, ItemVectors

LABELS = Path(__file__).parent / "labels" / "products.csv"
SHOWS_NOTHING = ("card", "chart", "banner")
_RESAMPLES = 2000


class Options(BaseSettings):
    """Compare photo weights and photo effects of a model with what photos and titles were seen to be."""

    model_config = JobOptions.model_config

    models: CommaSeparated[Path] = Field(description="Folders of models, as a,b.")
    catalog: Path = Field(description="Parquet of item_id, title, image_uri.")
    images: Path = Field(description="Parquet of image_uri, content.")


def area_under_curve(higher: np.ndarray, lower: np.ndarray) -> float:
    """The chance that a value of `higher` exceeds one of `lower`; equal ones count half.

    Args:
        higher, lower: (models, products); the area is the mean of the models'.
    """
    areas = []
    for above, below in zip(higher, lower, strict=True):
        in_order = np.sort(below)
        under, up_to = (np.searchsorted(in_order, above, side=side) for side in ("left", "right"))
        areas.append((under + up_to).mean() / 2 / len(below))
    return float(np.mean(areas))


def mean_difference(higher: np.ndarray, lower: np.ndarray) -> float:
    """How much larger the mean of `higher` is."""
    return float(higher.mean() - lower.mean())


def interval(
    measure: Callable[[np.ndarray, np.ndarray], float], higher: np.ndarray, lower: np.ndarray
) -> tuple[float, float]:
    """95 % bootstrap interval of a measure of two (models, products) samples, products drawn alike for all models."""
    random = np.random.default_rng(0)
    measured = [
        measure(*(values[:, random.integers(values.shape[1], size=values.shape[1])] for values in (higher, lower)))
        for _ in range(_RESAMPLES)
    ]
    return tuple(np.quantile(measured, [0.025, 0.975]))


def told(name: str, measure: Callable[[np.ndarray, np.ndarray], float], higher: np.ndarray, lower: np.ndarray) -> str:
    """A measure and its interval, to be read."""
    low, high = interval(measure, higher, lower)
    return f"{name} {measure(higher, lower):.3f} ({low:.3f} to {high:.3f})"


def read_labels() -> dict[str, tuple[str, str]]:
    """Of each labelled item, what its photo is and what its title is."""
    with LABELS.open() as file:
        return {row["item_id"]: (row["photo"], row["title"]) for row in csv.DictReader(file)}


def embed_labelled(options: Options, labels: dict[str, tuple[str, str]]) -> list[ItemVectors]:
    """What each model makes of the labelled items, in their order.

    Raises:
        ValueError: the catalog lacks some of them.
    """
    catalog = read_catalog(options.catalog, options.images)
    unknown = [item_id for item_id in labels if item_id not in catalog.positions]
    if unknown:
        raise ValueError(f"{options.catalog} lacks {len(unknown)} labelled items, such as {unknown[0]}")
    labelled = catalog.take([catalog.positions[item_id] for item_id in labels])
    encoders = map(Encoder.from_folder, options.models)
    return [
        encoder.embed_items(encoder.prepare_items(labelled.titles, labelled.photos.to_pylist())) for encoder in encoders
    ]


def main(arguments: list[str]) -> None:
    """Print the areas under the curve and the mean weights."""
    options = read_options(Options, arguments)
    labels = read_labels()
    vectors = embed_labelled(options, labels)
    photo, title = (np.array(column) for column in zip(*labels.values(), strict=True))
    shows, silent = photo == "product", np.isin(photo, SHOWS_NOTHING)
    plain, stuffed = shows & (title == "plain"), shows & (title == "stuffed")
    print(f"{shows.sum()} photos show the product, {silent.sum()} a card, a chart or a banner")
    for name in ("image_weight", "photo_effect"):
        values = np.stack([getattr(of_model, name) for of_model in vectors])
        means = ", ".join(f"{kind} {values[:, photo == kind].mean():.3f}" for kind in ("product", *SHOWS_NOTHING))
        print(f"{name}: {told('AUC', area_under_curve, values[:, shows], values[:, silent])}; means: {means}")
    print(f"{plain.sum()} of the shown products have a plain title, {stuffed.sum()} a stuffed one")
    weight = np.stack([of_model.title_weight for of_model in vectors])
    samples = weight[:, plain], weight[:, stuffed]
    means = f"plain {samples[0].mean():.3f}, stuffed {samples[1].mean():.3f}"
    print(f"title_weight: {told('AUC', area_under_curve, *samples)}; means: {means}")
    print(f"title_weight: {told('plain less stuffed', mean_difference, *samples)}")


if __name__ == "__main__":
    main(sys.argv[1:])
