"""Sample queries with what the published index answers, as a person would look at them: photo, title, score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.core.pages import thumbnails
from jobs.index.searcher import Searcher

_ITEM_COLUMNS = ("item_id", "title", "category", "price", "image_sha256", "title_weight", "image_weight")


@dataclass(frozen=True)
class SampleQuery:
    """A head query: its place by frequency (from 1), and its unit-norm vector (dim,) float32."""

    place: int
    query: str
    impressions: int
    vector: np.ndarray


@dataclass(frozen=True)
class Result:
    """An item that a query found, as the build knows it.

    Args:
        score: Inner product of query and item.
        photo: A data URI; None without a readable photo.
    """

    score: float
    item_id: str
    title: str
    category: str | None
    price: float | None
    title_weight: float
    image_weight: float
    photo: str | None


@dataclass(frozen=True)
class Answer:
    """A sample query with its results, best first."""

    query: SampleQuery
    results: Sequence[Result]


def sample_queries(query_embeddings: DataFrame, *, model_version: str, count: int) -> list[SampleQuery]:
    """Head queries at places 1, 2, 4, 8, ... by frequency: the same every night, and not only the most frequent.

    Args:
        query_embeddings: The table of that name.
        model_version: The model whose vectors are wanted.
        count: How many queries at most.
    """
    places = [2**n for n in range(count)]
    of_model = query_embeddings.where(F.col("model_version") == F.lit(model_version))
    by_frequency = [F.desc("impressions"), "query"]
    names = [row["query"] for row in of_model.orderBy(*by_frequency).limit(places[-1]).select("query").collect()]
    wanted = {names[place - 1]: place for place in places if place <= len(names)}
    rows = of_model.where(F.col("query").isin(*wanted)).select("query", "impressions", "embedding").collect()
    queries = [
        SampleQuery(wanted[row["query"]], row["query"], row["impressions"], np.array(row["embedding"], np.float32))
        for row in rows
    ]
    return sorted(queries, key=lambda query: query.place)


def answer_queries(
    queries: Sequence[SampleQuery], *, searcher: Searcher, images: DataFrame, results_per_query: int
) -> list[Answer]:
    """What the build answers, as the build knows its items; photos are read by key, for the shown items alone.

    Args:
        queries: Queries with vectors of the build's model.
        searcher: The opened build.
        images: The table `item_images`.
        results_per_query: How many results a query shows at most.
    """
    found = searcher.search(np.stack([query.vector for query in queries]), results_per_query)
    shown = np.unique(found.rows[found.rows >= 0])
    items = dict(zip(shown.tolist(), searcher.items(_ITEM_COLUMNS).take(shown).to_pylist(), strict=True))
    photos = thumbnails(images, {item["image_sha256"] for item in items.values()} - {None})

    def result(row: int, score: float) -> Result:
        item = items[row]
        photo = photos.get(item["image_sha256"])
        return Result(score, photo=photo, **{name: item[name] for name in _ITEM_COLUMNS if name != "image_sha256"})

    return [
        Answer(query, [result(row, score) for row, score in zip(rows, scores, strict=True) if row >= 0])
        for query, rows, scores in zip(queries, found.rows.tolist(), found.scores.tolist(), strict=True)
    ]
