"""`search(query, k)`: the published build as a table function.

The build is resolved once a SQL query, when it is analysed, so all rows of an answer come from one build even when
another is published meanwhile.  Workers open it, and the model that encodes queries, once a process.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.functions import udtf
from pyspark.sql.types import IntegralType, StringType, StructField, StructType
from pyspark.sql.udtf import AnalyzeArgument, AnalyzeResult

from jobs.index.manifest import Current
from jobs.index.searcher import Searcher
from schemas.table import DOUBLE, FLOAT, INT, STRING

if TYPE_CHECKING:
    from models.encoder import Encoder

_SCHEMA = StructType(
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
_ITEM_COLUMNS = tuple(_SCHEMA.names[2:])


@dataclass
class SearchPlan(AnalyzeResult):
    """What the analysis hands to the workers: the folder of the build that was published then."""

    build: str = ""


def register_search(spark: SparkSession, *, indexes: str, models: str) -> None:
    """Make `search` known to the session.

    Args:
        spark: The session.
        indexes: Folder of all builds, a path or URL that workers reach.
        models: Folder of all models, likewise.
    """

    class Search:
        """search(query STRING, k INT): the k best items of the published build, best first."""

        def __init__(self, plan: SearchPlan) -> None:
            self._build = plan.build

        @staticmethod
        def analyze(query: AnalyzeArgument, k: AnalyzeArgument) -> SearchPlan:
            if not isinstance(query.dataType, StringType) or not isinstance(k.dataType, IntegralType):
                came = f"search({query.dataType.simpleString()}, {k.dataType.simpleString()})"
                raise ValueError(f"expected search(query STRING, k INT), got {came}")
            return SearchPlan(_SCHEMA, build=f"{indexes}/{Current.read(indexes).build_id}")

        def eval(self, query: str | None, k: int | None) -> Iterator[tuple]:
            if query is None or not query.strip():
                return
            if k is None or k < 1:
                raise ValueError(f"search: expected k of at least 1, got {k}")
            searcher, encoder, items = _open(self._build, models)
            found = searcher.search(encoder.embed_queries([query]), k)
            are_rows = found.rows[0] >= 0
            scores, shown = found.scores[0][are_rows].tolist(), items.take(found.rows[0][are_rows]).to_pylist()
            for rank, (score, item) in enumerate(zip(scores, shown, strict=True), start=1):
                yield (rank, score, *(item[name] for name in _ITEM_COLUMNS))

    spark.udtf.register("search", udtf(Search))


@lru_cache(maxsize=1)
def _open(build: str, models: str) -> tuple[Searcher, "Encoder", pa.Table]:
    """The build, its model's encoder, and the columns of its items that answers show."""
    from jobs.embedding.inference import open_encoder  # costs seconds, and only workers need it

    searcher = Searcher.open(build)
    encoder = open_encoder(f"{models}/{searcher.manifest.model_version}", threads=1)
    return searcher, encoder, searcher.items(_ITEM_COLUMNS)
