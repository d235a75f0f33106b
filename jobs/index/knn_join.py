"""Each row of a DataFrame with its nearest items: searches in bulk, where the queries lie, with the shards kept open.

Queries are few bytes and go to the tasks; vectors are never shuffled.  A Python worker opens a build, and the model
that encodes its queries, once, and keeps them for later tasks; all workers of a machine map the same files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql.types import StructField, StructType

from jobs.core.job import JobError
from jobs.core.lake import Lake
from jobs.embedding.inference import threads_per_task
from jobs.index.builds import INDEXES
from jobs.index.filters import ItemFilter
from jobs.index.manifest import Current, Manifest
from jobs.index.opened import OpenedBuild
from jobs.index.searcher import Neighbours
from jobs.index.shard import vectors_of
from schemas.table import FLOAT, INT, STRING

By = Literal["vector", "query", "like"]

_FOUND = (StructField("rank", INT, False), StructField("item_id", STRING, False), StructField("score", FLOAT, False))
# Queries that are answered at once: their answers and the products with candidates are held in memory.
_QUERIES_AT_ONCE = 512


def knn_join(
    queries: DataFrame,
    k: int,
    *,
    lake: Lake,
    by: By = "vector",
    build_id: str | None = None,
    only: ItemFilter | None = None,
    exact: bool = False,
) -> DataFrame:
    """The k items of a build that are nearest to each query.

    Args:
        queries: What to search for, in the column that `by` names; all its other columns are carried along.
        k: At least 1.
        lake: Where the build lies.  The build is resolved now, so that all answers come from one, whatever is
            published before they are asked for.
        by: vector (ARRAY<FLOAT> of the build's model), query (text, encoded with the build's own model), or like (an
            item_id: items most like that one, itself left out).
        build_id: Search this build; by default the published one.
        only: Conditions that found items have to meet.
        exact: Compare with every vector instead of asking the index.

    Returns:
        The columns of `queries`, and for every found item rank (INT, from 1), item_id (STRING) and score (FLOAT, inner
        product).  A query that is null or blank, or an item that the build does not hold, gets no row; so does whatever
        is beyond the items that there are.

    Raises:
        JobError: A column is missing, or has the name of one that is added.
        BuildIntegrityError: There is no such build.  Workers raise it too, for files that are not as they were written.

    Example:
        pairs = knn_join(lake.read(QUERY_EMBEDDINGS).withColumnRenamed("embedding", "vector"), 10, lake=lake)
    """
    added = [field.name for field in _FOUND]
    if by not in queries.columns or set(added) & set(queries.columns):
        raise JobError(
            f"knn_join: expected a column {by} and none of {', '.join(added)}, got {', '.join(queries.columns)}"
        )
    indexes = lake.uri(INDEXES)
    folder = f"{indexes}/{build_id or Current.read(indexes).build_id}"
    Manifest.read(folder)
    models, threads = lake.uri("models"), threads_per_task(queries.sparkSession)

    def answer(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        faiss.omp_set_num_threads(threads)
        build = OpenedBuild.open(folder, models=models, threads=threads)
        allowed = build.rows_allowed(only) if only else None
        for batch in batches:
            for start in range(0, batch.num_rows, _QUERIES_AT_ONCE):
                part = batch.slice(start, _QUERIES_AT_ONCE)
                asked, vectors, own = _asked(part, by, build)
                if len(asked):
                    if own is None:
                        found = build.searcher.search(vectors, k, exact=exact, only=allowed)
                    else:
                        found = build.searcher.search_like(own, k, exact=exact, only=allowed)
                    yield _with_found(part.take(asked), found, build.item_ids)

    slots = queries.sparkSession.sparkContext.defaultParallelism
    if queries.rdd.getNumPartitions() < slots:
        queries = queries.repartition(slots)
    return queries.mapInArrow(answer, StructType([*queries.schema.fields, *_FOUND]))


def _asked(part: pa.RecordBatch, by: By, build: OpenedBuild) -> tuple[pa.Array, np.ndarray | None, np.ndarray | None]:
    """Which rows ask for something, and by what: their (rows, dimension) vectors, or rows of the build."""
    column = part.column(by)
    if by == "vector":
        asked = pc.indices_nonzero(pc.is_valid(column))
        return asked, vectors_of(pa.record_batch([column.take(asked)], ["embedding"])), None
    if by == "query":
        asked = pc.indices_nonzero(pc.utf8_length(pc.utf8_trim_whitespace(column)))
        return asked, build.encoder.embed_queries(column.take(asked).to_pylist()), None
    rows = pc.index_in(column, build.item_ids)
    asked = pc.indices_nonzero(pc.is_valid(rows))
    return asked, None, rows.take(asked).to_numpy().astype(np.int64)


def _with_found(queries: pa.RecordBatch, found: Neighbours, item_ids: pa.Array) -> pa.RecordBatch:
    """A row a result, best first within each query."""
    of_query, places = np.nonzero(found.rows >= 0)
    columns = {name: queries.column(name).take(pa.array(of_query)) for name in queries.schema.names}
    columns |= {
        "rank": pa.array(places + 1, pa.int32()),
        "item_id": item_ids.take(pa.array(found.rows[of_query, places])),
        "score": pa.array(found.scores[of_query, places], pa.float32()),
    }
    return pa.RecordBatch.from_pydict(columns)
