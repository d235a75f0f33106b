"""`search`, `similar_items` and `search_many`: a build as table functions, the published one unless another is named.

The build is resolved once a SQL query, when it is analysed, so all rows of an answer come from one build even when
another is published meanwhile.  Workers open it, and the model that encodes queries, once a process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from pyspark.sql import Row
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    IntegralType,
    NullType,
    NumericType,
    StringType,
    StructField,
    StructType,
)
from pyspark.sql.udtf import AnalyzeArgument, AnalyzeResult, SelectedColumn

from jobs.index.filters import ItemFilter
from jobs.index.opened import SHOWN_COLUMNS, OpenedBuild
from jobs.index.searcher import Neighbours
from jobs.sql.arguments import build_folder, expect, told_constant
from schemas.table import DOUBLE, FLOAT, INT, STRING

_FOUND = StructType(
    [
        StructField("rank", INT),
        StructField("score", FLOAT),
        StructField("item_id", STRING),
        StructField("title", STRING),
        StructField("category", STRING),
        StructField("price", DOUBLE),
        StructField("title_weight", FLOAT),
        StructField("image_weight", FLOAT),
        StructField("image_status", STRING),
    ]
)
_FOUND_FOR_QUERY = StructType([StructField("query", STRING), *_FOUND.fields])
# Beyond this a comparison with every vector is the better way to ask.
_MOST_RESULTS = 10_000
# Queries that `search_many` answers at once.
_QUERIES_AT_ONCE = 512
# What a search asks of items, field by field of the struct `filter`.
_FILTER_FIELDS: dict[str, type[DataType]] = {
    "category": StringType,
    "min_price": NumericType,
    "max_price": NumericType,
    "in_stock": BooleanType,
    "item_ids": ArrayType,
}


@dataclass
class SearchPlan(AnalyzeResult):
    """What the analysis of a call hands to the workers: the build that was published then, and the conditions."""

    build: str = ""
    only: ItemFilter | None = None


def search_functions(*, indexes: str, models: str) -> dict[str, type]:
    """The handlers of the table functions by name, for `spark.udtf.register`.

    Args:
        indexes: Folder of all builds, a path or URL that workers reach.
        models: Folder of all models, likewise.
    """

    def plan(
        schema: StructType, only: AnalyzeArgument | None, build_id: AnalyzeArgument | None, **more: object
    ) -> SearchPlan:
        return SearchPlan(schema, build=build_folder(indexes, build_id), only=_item_filter(only), **more)

    class _Answering:
        """What the three have in common: the build and the conditions that the analysis resolved."""

        def __init__(self, plan: SearchPlan) -> None:
            self._plan = plan

        def _open(self) -> tuple[OpenedBuild, np.ndarray | None]:
            build = OpenedBuild.open(self._plan.build, models=models, threads=1)
            return build, None if self._plan.only is None else build.rows_allowed(self._plan.only)

    class Search(_Answering):
        """search(query STRING, k INT, filter STRUCT, build_id STRING): the k best items for a text, best first."""

        @staticmethod
        def analyze(
            query: AnalyzeArgument,
            k: AnalyzeArgument,
            filter: AnalyzeArgument | None = None,
            build_id: AnalyzeArgument | None = None,
        ) -> SearchPlan:
            expect("search", query=(query, StringType), k=(k, IntegralType))
            return plan(_FOUND, filter, build_id)

        def eval(self, query: str | None, k: int | None, *_: object, **__: object) -> Iterator[tuple]:
            k = _checked("search", k)
            if _is_asked(query):
                build, allowed = self._open()
                found = build.searcher.search(build.encoder.embed_queries([query]), k, only=allowed)
                yield from _rows(build, found)

    class SimilarItems(_Answering):
        """similar_items(item_id STRING, k INT, filter STRUCT, build_id STRING): the k items most like a given one."""

        @staticmethod
        def analyze(
            item_id: AnalyzeArgument,
            k: AnalyzeArgument,
            filter: AnalyzeArgument | None = None,
            build_id: AnalyzeArgument | None = None,
        ) -> SearchPlan:
            expect("similar_items", item_id=(item_id, StringType), k=(k, IntegralType))
            return plan(_FOUND, filter, build_id)

        def eval(self, item_id: str | None, k: int | None, *_: object, **__: object) -> Iterator[tuple]:
            k = _checked("similar_items", k)
            build, allowed = self._open()
            row = pc.index(build.item_ids, item_id).as_py() if item_id is not None else -1
            if row >= 0:
                yield from _rows(build, build.searcher.search_like(np.array([row]), k, only=allowed))

    class SearchMany(_Answering):
        """search_many(TABLE(queries), k INT, filter STRUCT, build_id STRING): `search` for every row's `query`."""

        def __init__(self, plan: SearchPlan) -> None:
            super().__init__(plan)
            self._k: int | None = None
            self._queries: list[str] = []

        @staticmethod
        def analyze(
            queries: AnalyzeArgument,
            k: AnalyzeArgument,
            filter: AnalyzeArgument | None = None,
            build_id: AnalyzeArgument | None = None,
        ) -> SearchPlan:
            if not queries.isTable:
                raise ValueError("search_many: expected TABLE(SELECT query FROM ...) as the first argument")
            columns = {field.name: field for field in queries.dataType.fields}
            if "query" not in columns or not isinstance(columns["query"].dataType, StringType):
                came = ", ".join(f"{name} {field.dataType.simpleString()}" for name, field in columns.items())
                raise ValueError(f"search_many: expected a table with a column query STRING, got {came}")
            expect("search_many", k=(k, IntegralType))
            _checked("search_many", told_constant("search_many", "k", k))
            return plan(_FOUND_FOR_QUERY, filter, build_id, select=[SelectedColumn("query")])

        def eval(self, row: Row, k: int, *_: object, **__: object) -> Iterator[tuple]:
            self._k = k
            if _is_asked(row["query"]):
                self._queries.append(row["query"])
            if len(self._queries) == _QUERIES_AT_ONCE:
                yield from self._answered()

        def terminate(self) -> Iterator[tuple]:
            if self._queries:
                yield from self._answered()

        def _answered(self) -> Iterator[tuple]:
            queries, self._queries = self._queries, []
            build, allowed = self._open()
            found = build.searcher.search(build.encoder.embed_queries(queries), self._k, only=allowed)
            of_query = np.nonzero(found.rows >= 0)[0].tolist()
            for number, row in zip(of_query, _rows(build, found), strict=True):
                yield queries[number], *row

    return {"search": Search, "similar_items": SimilarItems, "search_many": SearchMany}


def _checked(function: str, k: int | None) -> int:
    if k is None or not 1 <= k <= _MOST_RESULTS:
        raise ValueError(
            f"{function}: expected k from 1 to {_MOST_RESULTS}, got {'NULL' if k is None else k}; to rank more items, "
            "order current_items by vector_inner_product"
        )
    return k


def _is_asked(query: str | None) -> bool:
    return query is not None and bool(query.strip())


def _rows(build: OpenedBuild, found: Neighbours) -> Iterator[tuple]:
    """A tuple of `_FOUND` for every result, query by query, best first."""
    of_query, places = np.nonzero(found.rows >= 0)
    rows = found.rows[of_query, places]
    shown = build.shown.take(rows)
    columns: Sequence[Sequence] = (
        (places + 1).tolist(),
        found.scores[of_query, places].tolist(),
        build.item_ids.take(rows).to_pylist(),
        *(shown[name].to_pylist() for name in SHOWN_COLUMNS),
    )
    return zip(*columns, strict=True)


def _item_filter(argument: AnalyzeArgument | None) -> ItemFilter | None:
    """The conditions that a struct names, as in named_struct('category', 'dress', 'max_price', 50)."""
    if argument is None or isinstance(argument.dataType, NullType):
        return None
    known = ", ".join(_FILTER_FIELDS)
    if not isinstance(argument.dataType, StructType):
        came = argument.dataType.simpleString()
        raise ValueError(f"filter: expected named_struct of any of {known}, got {came}")
    for field in argument.dataType.fields:
        kind = _FILTER_FIELDS.get(field.name)
        if kind is None:
            raise ValueError(f"filter: expected fields of {known}, got {field.name}")
        is_texts = not isinstance(field.dataType, ArrayType) or isinstance(field.dataType.elementType, StringType)
        if not isinstance(field.dataType, (kind, NullType)) or not is_texts:
            expected = "array<string>" if kind is ArrayType else kind.__name__.removesuffix("Type").lower()
            raise ValueError(f"filter: expected {field.name} to be {expected}, got {field.dataType.simpleString()}")
    values = told_constant("filter", "filter", argument).asDict()
    prices = {name: float(values[name]) for name in ("min_price", "max_price") if values.get(name) is not None}
    return ItemFilter(**{**values, **prices})
