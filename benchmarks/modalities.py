"""Whether a model's gate tells photos that show the product from those that do not, and stuffed titles from plain ones.

    python -m benchmarks.modalities --model lake/models/<version> --catalog catalog.parquet --images images.parquet

`labels/products.csv` says what 600 products' photos and titles are: of the products with a photo, in order of item_id,
those that `numpy.random.default_rng(20261121).choice(products, 600, replace=False)` draws, labelled by eye without a
look at any model's weights.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.judged import read_catalog
from jobs.core.options import JobOptions, OptionsError, parse_options
from models.encoder import Encoder, ItemVectors

LABELS = Path(__file__).parent / "labels" / "products.csv"
SHOWS_NOTHING = ("card", "chart", "banner")
_RESAMPLES = 2000


class Options(BaseSettings):
    """Compare photo weights and photo effects of a model with what photos and titles were seen to be."""

    model_config = JobOptions.model_config

    model: Path = Field(description="Folder of a model.")
    catalog: Path = Field(description="Parquet of item_id, title, image_uri.")
    images: Path = Field(description="Parquet of image_uri, content.")


def area_under_curve(higher: np.ndarray, lower: np.ndarray) -> float:
    """The chance that a value of `higher` exceeds one of `lower`; equal ones count half."""
    ordered = np.sort(lower)
    below, up_to = (np.searchsorted(ordered, higher, side=side) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(lower))


def interval(higher: np.ndarray, lower: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of `area_under_curve`, over both samples."""
    random = np.random.default_rng(0)
    areas = [
        area_under_curve(random.choice(higher, len(higher)), random.choice(lower, len(lower)))
        for _ in range(_RESAMPLES)
    ]
    return tuple(np.quantile(areas, [0.025, 0.975]))


def compared(higher: np.ndarray, lower: np.ndarray) -> str:
    """The area and its interval, to be read."""
    low, high = interval(higher, lower)
    return f"AUC {area_under_curve(higher, lower):.3f} ({low:.3f} to {high:.3f})"


def read_labels() -> dict[str, tuple[str, str]]:
    """Of each labelled item, what its photo is and what its title is."""
    with LABELS.open() as file:
        return {row["item_id"]: (row["photo"], row["title"]) for row in csv.DictReader(file)}


def embed_labelled(options: Options, labels: dict[str, tuple[str, str]]) -> ItemVectors:
    """What the model makes of the labelled items, in their order.

    Raises:
        ValueError: the catalog lacks some of them.
    """
    catalog = read_catalog(options.catalog, options.images)
    unknown = [item_id for item_id in labels if item_id not in catalog.positions]
    if unknown:
        raise ValueError(f"{options.catalog} lacks {len(unknown)} labelled items, such as {unknown[0]}")
    labelled = catalog.take([catalog.positions[item_id] for item_id in labels])
    encoder = Encoder.from_folder(options.model)
    return encoder.embed_items(encoder.prepare_items(labelled.titles, labelled.photos.to_pylist()))


def main(arguments: list[str]) -> None:
    """Print the areas under the curve and the mean weights."""
    try:
        options = parse_options(Options, arguments)
    except OptionsError as error:
        sys.exit(str(error))
    labels = read_labels()
    vectors = embed_labelled(options, labels)
    photo, title = (np.array(column) for column in zip(*labels.values(), strict=True))
    shows, silent = photo == "product", np.isin(photo, SHOWS_NOTHING)
    plain, stuffed = shows & (title == "plain"), shows & (title == "stuffed")
    print(f"{shows.sum()} photos show the product, {silent.sum()} a card, a chart or a banner")
    for name, values in (("photo weight", vectors.image_weight), ("photo effect", vectors.photo_effect)):
        means = ", ".join(f"{kind} {values[photo == kind].mean():.3f}" for kind in ("product", *SHOWS_NOTHING))
        print(f"{name}: {compared(values[shows], values[silent])}; means: {means}")
    print(f"{plain.sum()} of the shown products have a plain title, {stuffed.sum()} a stuffed one")
    weight = vectors.title_weight
    means = f"plain {weight[plain].mean():.3f}, stuffed {weight[stuffed].mean():.3f}"
    print(f"title weight: {compared(weight[plain], weight[stuffed])}; means: {means}")


if __name__ == "__main__":
    main(sys.argv[1:])
