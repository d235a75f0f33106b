"""How fast `knn_join` answers many queries, beside FAISS alone on the same files, and beside a cross join in SQL.

FAISS alone is one process with as many threads as Spark has slots, its index opened before, all queries at once.  Spark
is asked once before it counts: its workers are alive then and have opened the shards.  What it answers goes where it
writes to nothing.  The cross join compares every query with every vector, by the function that analysts have; few
queries are enough for it.

    python -m benchmarks.bulk_search --items 1000000
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import faiss
import numpy as np
import pandas as pd
from pydantic import Field
from pydantic_settings import BaseSettings
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks.clustered import ClusteredVectors
from benchmarks.options import read_options
from benchmarks.searching import K, recall, search_alone
from benchmarks.table import markdown_table
from benchmarks.vector_lake import HELD_OUT_SERIES, VectorLake
from jobs.core.lake import Lake
from jobs.core.options import JobOptions
from jobs.index.knn_join import knn_join
from jobs.sql.register import register
from schemas import ITEM_EMBEDDINGS

SPARK, ALONE, CROSS_JOIN = "`knn_join`", "FAISS alone", "cross join in SQL"
# Queries whose true neighbours are looked up.
_JUDGED = 1_000
_CROSS_JOIN = f"""
SELECT number, rank, item_id, score FROM (
  SELECT asked.number, e.item_id, vector_inner_product(asked.vector, e.embedding) AS score,
         row_number() OVER (PARTITION BY asked.number
                            ORDER BY vector_inner_product(asked.vector, e.embedding) DESC) AS rank
  FROM asked CROSS JOIN make.item_embeddings e)
WHERE rank <= {K}
"""


class Options(BaseSettings):
    """Answer the same queries by Spark, by FAISS alone and by SQL."""

    model_config = JobOptions.model_config

    items: int = Field(1_000_000, ge=1, description="Vectors of the index that FAISS is asked alone, too.")
    few_items: int = Field(44_000, ge=1, description="Vectors that the cross join reads.")
    dimension: int = Field(128, ge=2, description="Length of a vector.")
    queries: int = Field(10_000, ge=1, description="Queries that Spark and FAISS answer.")
    few_queries: int = Field(100, ge=1, description="Queries that the cross join answers.")
    rounds: int = Field(3, ge=1, description="Times that each is timed, in turn.")


class Timed(NamedTuple):
    """One way to answer queries.

    Attributes:
        queries: How many were answered at once.
        seconds: For all of them, round by round.
        recall_at_10: Of those whose true neighbours are known.
    """

    queries: int
    seconds: list[float]
    recall_at_10: float

    @property
    def ms(self) -> list[float]:
        """Milliseconds a query, round by round."""
        return [1000 * seconds / self.queries for seconds in self.seconds]


class Asked:
    """Queries for the build of a lake, in memory: of Spark, and of this process.

    Args:
        lake: A lake of these vectors.
        build: The folder of its build.
        vectors: What its items are drawn from.
        items: How many.
        queries: How many queries to ask.
    """

    def __init__(self, lake: Lake, build: Path, vectors: ClusteredVectors, *, items: int, queries: int) -> None:
        self._lake, self._build = lake, build
        self._spark = lake.read(ITEM_EMBEDDINGS).sparkSession
        self._queries = vectors.queries(queries, series=HELD_OUT_SERIES)
        self._nearest = vectors.nearest(self._queries[:_JUDGED], K, items=items)
        self._frame = self._framed(queries)

    def _framed(self, count: int) -> DataFrame:
        rows = pd.DataFrame({"number": range(count), "vector": list(self._queries[:count])})
        frame = self._spark.createDataFrame(rows, "number int, vector array<float>")
        frame = frame.repartition(self._spark.sparkContext.defaultParallelism).persist()
        frame.count()
        return frame

    def beside_faiss(self, rounds: int) -> dict[str, Timed]:
        """Spark, and FAISS alone in this process with as many threads as Spark has slots."""
        faiss.omp_set_num_threads(self._spark.sparkContext.defaultParallelism)
        search = search_alone(self._build)
        ways = {ALONE: lambda: search(self._queries, K), SPARK: self._answer}
        seconds = in_turn(ways, rounds=rounds)
        found = search(self._queries[: len(self._nearest)], K)
        recalls = {ALONE: recall(found, self._nearest, K), SPARK: self._recall_of(self._joined())}
        return {name: Timed(len(self._queries), seconds[name], recalls[name]) for name in seconds}

    def beside_sql(self, few_queries: int, rounds: int) -> dict[str, Timed]:
        """Spark, and for some of the queries the cross join."""
        register(self._spark, self._lake)
        self._framed(few_queries).createOrReplaceTempView("asked")
        crossed = partial(self._spark.sql, _CROSS_JOIN)
        # Its few answers are collected: Delta plans no scan for a write to nothing.
        seconds = in_turn({CROSS_JOIN: lambda: crossed().collect(), SPARK: self._answer}, rounds=rounds)
        return {
            CROSS_JOIN: Timed(few_queries, seconds[CROSS_JOIN], self._recall_of(crossed())),
            SPARK: Timed(len(self._queries), seconds[SPARK], self._recall_of(self._joined())),
        }

    def _answer(self) -> None:
        self._joined().write.format("noop").mode("overwrite").save()

    def _joined(self) -> DataFrame:
        return knn_join(self._frame, K, lake=self._lake, build_id=self._build.name)

    def _recall_of(self, answers: DataFrame) -> float:
        judged = F.col("number") < len(self._nearest)
        rows = answers.where(judged).select("number", "rank", "item_id").toPandas()
        found = np.full((rows["number"].max() + 1, K), -1)
        found[rows["number"], rows["rank"] - 1] = rows["item_id"].astype(int)
        return recall(found, self._nearest[: len(found)], K)


def in_turn(actions: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds that each action takes, round by round, in reversed order every other round; a first time is not kept."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name in list(actions)[:: -1 if number % 2 else 1]:
            began = time.perf_counter()
            actions[name]()
            seconds[name].append(time.perf_counter() - began)
    return {name: of_action[1:] for name, of_action in seconds.items()}


def told(timed: Mapping[str, Timed], ratio: str, ratios: list[float]) -> str:
    """A Markdown table of ways to answer, and a ratio of the last to the first, round by round."""
    rows = [["", "queries", "seconds", "ms a query", "recall@10"]]
    for name, way in timed.items():
        figures = [f"{way.queries:,}", f"{median(way.seconds):.2f}", f"{median(way.ms):.3f}", f"{way.recall_at_10:.4f}"]
        rows.append([name, *figures])
    lowest, highest = min(ratios), max(ratios)
    return f"{markdown_table(rows)}\n\n{ratio}: {median(ratios):,.2f} ({lowest:,.2f} to {highest:,.2f})"


def told_beside_faiss(timed: Mapping[str, Timed]) -> str:
    """What Spark reaches of FAISS alone."""
    shares = [alone / joined for alone, joined in zip(timed[ALONE].ms, timed[SPARK].ms, strict=True)]
    return told(timed, "share of the speed of FAISS alone", shares)


def told_beside_sql(timed: Mapping[str, Timed]) -> str:
    """How many times faster Spark is than the cross join."""
    times = [crossed / joined for crossed, joined in zip(timed[CROSS_JOIN].ms, timed[SPARK].ms, strict=True)]
    return told(timed, "times faster a query than the cross join", times)


def asked_of(options: Options, folder: Path, *, items: int) -> Asked:
    """Fill a lake with so many vectors, build its index, and open both in this process's session."""
    folder.mkdir()
    vectors = ClusteredVectors(options.dimension)
    vector_lake = VectorLake(folder, vectors, items)
    build = vector_lake.build().folder
    _, lake = vector_lake.open()
    return Asked(lake, build, vectors, items=items, queries=options.queries)


def main(arguments: list[str]) -> None:
    """Answer the queries, and print the tables."""
    options = read_options(Options, arguments)
    with tempfile.TemporaryDirectory() as folder:
        few = asked_of(options, Path(folder) / "few", items=options.few_items)
        print(told_beside_sql(few.beside_sql(options.few_queries, options.rounds)))
        print(f"\n{options.few_items:,} vectors of {options.dimension}\n")
        many = asked_of(options, Path(folder) / "many", items=options.items)
        print(told_beside_faiss(many.beside_faiss(options.rounds)))
        print(
            f"\n{options.items:,} vectors of {options.dimension}, {options.rounds} rounds, {os.cpu_count()} CPU cores"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
