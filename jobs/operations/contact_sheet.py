"""Sample queries with what the published index answers, as a person would look at them: photo, title, score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.index.searcher import Searcher


@dataclass(frozen=True)
class ShownItem:
    """An item as a build knows it; `image_sha256` names its photo, None without one."""

    item_id: str
    title: str
    category: str | None
    price: float | None
    image_sha256: str | None
    title_weight: float
    image_weight: float


@dataclass(frozen=True)
class Result:
    """An item that a query found; `score` is the inner product of the two."""

    item: ShownItem
    score: float


@dataclass(frozen=True)
class SampleQuery:
    """A head query: its place by frequency (from 1), and its unit-norm vector (dim,) float32."""

    place: int
    query: str
    impressions: int
    vector: np.ndarray


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


def vectors_under(
    query_embeddings: DataFrame, queries: Sequence[SampleQuery], *, model_version: str
) -> dict[str, np.ndarray]:
    """Query -> its vector under another model, of those that the table has under it."""
    of_model = query_embeddings.where(F.col("model_version") == F.lit(model_version))
    rows = of_model.where(F.col("query").isin([query.query for query in queries])).select("query", "embedding")
    return {row["query"]: np.array(row["embedding"], np.float32) for row in rows.collect()}


def shown_items(searcher: Searcher, rows: np.ndarray) -> dict[int, ShownItem]:
    """Rows of a build with their items."""
    columns = list(ShownItem.__dataclass_fields__)
    items = searcher.items(columns).take(rows).to_pylist()
    return {row: ShownItem(**item) for row, item in zip(rows.tolist(), items, strict=True)}


def answer_queries(queries: Sequence[SampleQuery], searcher: Searcher, *, results_per_query: int) -> list[Answer]:
    """What a build answers, as the build knows its items.

    Args:
        queries: Queries with vectors of the build's model.
        searcher: The opened build.
        results_per_query: How many results a query shows at most.
    """
    found = searcher.search(np.stack([query.vector for query in queries]), results_per_query)
    items = shown_items(searcher, np.unique(found.rows[found.rows >= 0]))
    return [
        Answer(query, [Result(items[row], score) for row, score in zip(rows, scores, strict=True) if row >= 0])
        for query, rows, scores in zip(queries, found.rows.tolist(), found.scores.tolist(), strict=True)
    ]
