"""Write a model's page: how its training went, what it learnt from, how well it answers, and how it reads photos.

Reads:  models, training_sets, job_runs, judged_results, photo_weights, items, item_images, training_runs/; the summary
        of `make ablations`
Writes: reports/<run_id>/index.html
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from pydantic import Field
from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.core.job import DatedOptions, JobRun, main
from jobs.core.judgments import judged_runs
from jobs.core.lake import Lake
from jobs.core.pages import render_page, write_page
from jobs.core.plots import HISTOGRAM_BINS, WeightSpread, weight_histogram, weight_spreads
from jobs.core.serving import find_model
from jobs.training.ablations import Ablations, read_ablations
from jobs.training.colours import names_a_colour
from jobs.training.curves import Curves, draw_curves, read_curves
from jobs.training.gallery import Card, Gallery
from jobs.training.results import last_results
from jobs.training.slices import ALL, SHOWN_MEASURES, TYPOS
from models.retrieval_metrics import bootstrap_interval
from models.training.settings import settings_that_differ
from schemas import ITEMS, JOB_RUNS, PHOTO_WEIGHTS, TRAINING_SETS

# Categories that are told apart, the largest first.
_CATEGORIES = 12
# Slices of judged queries' answers whose weights are set against each other.
_COMPARED_ANSWERS = ("titles that hold every word", "titles that lack a word", "items shown", "items never shown")


class Options(DatedOptions):
    """Write the page of a model: its training, its figures, its weights, its hardest queries."""

    model_version: str | None = Field(None, description="The model; default: the one trained last.")
    shown_queries: int = Field(8, ge=0, le=50, description="Hardest queries that the page shows.")
    shown_items: int = Field(8, ge=0, le=50, description="Products at each end of the photo's weight and effect.")
    ablations: Path | None = Field(
        None, description="The summary.json that `make ablations` left; default: none shown."
    )


@dataclass(frozen=True)
class Verdict:
    """What promotion said of the model, as a light (green, amber), a headline and reasons."""

    light: str
    headline: str
    reasons: Sequence[str]


@dataclass(frozen=True)
class Figure:
    """A mean over a slice's queries, and the ends of its 95 % interval."""

    mean: float
    lower: float
    upper: float


@dataclass(frozen=True)
class HardQuery:
    """A query that the model answers badly, with its first results."""

    query: str
    ndcg: float
    relevant: int
    results: Sequence[Card]


@dataclass(frozen=True)
class Weights:
    """How the model weighs title and photo.

    Args:
        image_status: ok, missing, broken -> items of the sample.
        histogram: Items with a readable photo by the photo's weight.
        categories, kinds: The same by category, and by what titles and the judged queries' answers are.
        examples: Caption to products, for both ends of the photo's weight and of its effect.
    """

    image_status: Mapping[str, int]
    histogram: Sequence[int]
    categories: Sequence[WeightSpread]
    kinds: Sequence[WeightSpread]
    examples: Mapping[str, Sequence[Card]]


@dataclass(frozen=True)
class Page:
    """Everything that the template shows; a part that nothing is known of is empty or None."""

    date: dt.date
    run_id: str
    model: Row
    verdict: Verdict
    curves: Curves | None
    data_seen: Mapping[str, float]
    settings: Mapping[str, Any]
    slices: Mapping[str, tuple[int, Mapping[str, Figure]]]
    measured_on: dt.date | None
    judged_runs: int
    weights: Weights | None
    hardest: Sequence[HardQuery]
    ablations: Ablations | None

    measures = SHOWN_MEASURES

    @property
    def plots(self) -> Mapping[str, Markup]:
        """The plots for which there is data, by name."""
        drawn = {}
        if self.curves:
            drawn["losses"] = draw_curves(self.curves.losses, name="losses", label="Losses over steps")
            if self.curves.recall:
                label = "Recall on held-out clicks over steps"
                drawn["recall"] = draw_curves(self.curves.recall, name="recall", label=label)
        if self.weights and any(self.weights.histogram):
            drawn["weights"] = weight_histogram(self.weights.histogram)
            drawn["categories"] = weight_spreads(self.weights.categories, name="categories")
            drawn["kinds"] = weight_spreads(self.weights.kinds, name="kinds")
        return drawn


def verdict_of(lake: Lake, model: Row) -> Verdict:
    """What became of the model, by its stage and by the last run of `training promote` that named it."""
    version = model["model_version"]
    names_it = F.exists(
        "notes", lambda note: note.startswith(f"{version} ") | note.contains(f" of {version} against the promoted ")
    )
    judged = lake.read(JOB_RUNS).where((F.col("job") == "training promote") & names_it)
    last = judged.orderBy(F.desc("finished_at")).first()
    notes = last["notes"] if last else []
    if model["promoted_at"] is not None:
        return Verdict("green", f"{model['stage']}, on {model['promoted_at']:%-d %B %Y}", notes)
    return Verdict("amber", "not promoted" if last else "not judged yet", notes)


def data_seen(lake: Lake, model: Row) -> dict[str, float]:
    """What the model learnt from, by name: the set's rows, and what the run that cut the set counted."""
    of_set = lake.read(TRAINING_SETS).where(F.col("training_set_id") == model["training_set_id"]).first()
    seen = {f"training: {name}": model["metrics"].get(name) for name in ("steps", "seconds", "rows_read")}
    if of_set is None:
        return {name: value for name, value in seen.items() if value is not None}
    cut = (
        lake.read(JOB_RUNS)
        .where((F.col("job") == "training build-set") & (F.col("logical_date") == F.lit(of_set["logical_date"])))
        .where(F.col("figures")["rows_train"] == of_set["train_rows"])
        .orderBy(F.desc("finished_at"))
        .first()
    )
    counted = cut["figures"] if cut else {}
    silent = counted.get("products_without_clicks")
    seen |= {
        "products (rows) of the train split": of_set["train_rows"],
        "of them without a click": silent,
        "of them with clicks": None if silent is None else of_set["train_rows"] - silent,
        "clicked (query, item) pairs that train": counted.get("pairs_train"),
        "rows of held-out queries": of_set["validation_query_rows"],
        "rows of held-out products": of_set["validation_item_rows"],
    }
    return {name: value for name, value in seen.items() if value is not None}


def slice_figures(results: pd.DataFrame) -> dict[str, tuple[int, dict[str, Figure]]]:
    """Slice to how many queries it has and its figures; `all` and `typos` first."""
    by_slice = dict(iter(results.sort_values("query_id").groupby("slice")))
    first = [name for name in (ALL, TYPOS) if name in by_slice]
    return {
        name: (
            len(by_slice[name]),
            {
                measure: Figure(values.mean(), *bootstrap_interval(values.to_numpy()))
                for measure, values in by_slice[name][list(SHOWN_MEASURES)].items()
            },
        )
        for name in (*first, *sorted(set(by_slice) - set(first)))
    }


def hardest_queries(results: pd.DataFrame, count: int) -> pd.DataFrame:
    """The queries answered worst: by nDCG@10, then by recall@100."""
    whole = results[results["slice"] == ALL]
    return whole.sort_values(["ndcg_at_10", "recall_at_100", "query_id"]).head(count)


def spread_of(group: str, weights: pd.Series) -> WeightSpread:
    """The spread of some items' weights."""
    return WeightSpread(group, len(weights), *np.quantile(weights, [0.1, 0.5, 0.9]).tolist())


def category_spreads(shown: pd.DataFrame) -> list[WeightSpread]:
    """The spreads of the largest categories, by median."""
    groups = shown.assign(category=shown["category"].fillna("(no category)")).groupby("category")["image_weight"]
    largest = sorted(groups, key=lambda group: (-len(group[1]), group[0]))[:_CATEGORIES]
    return sorted((spread_of(*group) for group in largest), key=lambda spread: spread.median)


def kind_spreads(shown: pd.DataFrame, results: pd.DataFrame | None) -> list[WeightSpread]:
    """The spreads of kinds of titles and, once they are known, of judged queries' answers, as the sample has them."""
    named = shown["title"].map(names_a_colour)
    kinds = {"titles that name a colour": shown[named], "titles that name none": shown[~named]}
    for kind in () if results is None else _COMPARED_ANSWERS:
        answers = set().union(*results.loc[results["slice"] == kind, "relevant"])
        kinds[f"answers: {kind}"] = shown[shown["item_id"].isin(answers)]
    return [spread_of(kind, items["image_weight"]) for kind, items in kinds.items() if len(items)]


def ends(shown: pd.DataFrame, count: int) -> dict[str, pd.DataFrame]:
    """Caption to the products at an end of the photo's weight, or of its effect."""
    captions = {
        "image_weight": ("The photo weighs least", "The photo weighs most"),
        "photo_effect": ("The photo changes the vector least", "The photo changes the vector most"),
    }
    found = {}
    for column, (least, most) in captions.items():
        in_order = shown.sort_values([column, "item_id"])
        found[least], found[most] = in_order.head(count), in_order.tail(count).iloc[::-1]
    return found


def gather(job: JobRun, options: Options) -> Page:
    """Read all that the lake knows of the model."""
    lake = job.lake
    model = find_model(lake, options.model_version)
    version = model["model_version"]
    with job.stage("tables"):
        rows = last_results(lake, version, options.date)
        results = None if rows is None else rows.toPandas()
        items = lake.read(ITEMS).select("item_id", "title", "category")
        sample = lake.read(PHOTO_WEIGHTS).where(F.col("model_version") == version)
        sample = sample.join(items, on="item_id", how="inner").toPandas()
        verdict, seen = verdict_of(lake, model), data_seen(lake, model)
    shown = sample[sample["image_status"] == "ok"]
    hard = [] if results is None else list(hardest_queries(results, options.shown_queries).itertuples())
    at_ends = ends(shown, options.shown_items) if len(shown) else {}
    with job.stage("photos"):
        gallery = Gallery(
            lake,
            {item_id for query in hard for item_id in query.found}
            | {item_id for products in at_ends.values() for item_id in products["item_id"]},
        )
    weights = Weights(
        image_status=sample["image_status"].value_counts().to_dict(),
        histogram=np.histogram(shown["image_weight"], bins=HISTOGRAM_BINS, range=(0, 1))[0].tolist(),
        categories=category_spreads(shown),
        kinds=kind_spreads(shown, results),
        examples={
            caption: [
                gallery.card(product.item_id, f"weight {product.image_weight:.2f}, effect {product.photo_effect:.2f}")
                for product in products.itertuples()
            ]
            for caption, products in at_ends.items()
        },
    )
    return Page(
        date=options.date,
        run_id=job.run_id,
        model=model,
        verdict=verdict,
        curves=read_curves(lake, version),
        data_seen=seen,
        settings=settings_that_differ(json.loads(model["training_settings"])),
        slices={} if results is None else slice_figures(results),
        measured_on=None if results is None else results["logical_date"].iloc[0],
        judged_runs=0 if results is None else sum(judged_runs(lake, results["judged_set"].iloc[0]).values()),
        weights=weights if len(sample) else None,
        hardest=[
            HardQuery(
                query.query,
                query.ndcg_at_10,
                len(query.relevant),
                [gallery.result(item_id, set(query.relevant)) for item_id in query.found],
            )
            for query in hard
        ],
        ablations=None if options.ablations is None else read_ablations(options.ablations),
    )


def run(job: JobRun, options: Options) -> None:
    """Gather, draw, and put the page into the lake."""
    page = gather(job, options)
    with job.stage("render"):
        html = render_page("jobs.training", "report.html.j2", page=page)
    place = write_page(job.lake, job.run_id, html)
    job.figure("bytes", len(html.encode("utf-8")))
    job.note(f"{page.model['model_version']}: {page.verdict.headline}; page: {place}")


if __name__ == "__main__":
    main(run, Options)
