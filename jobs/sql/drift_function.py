"""`drift_between(build_a, build_b)`: item by item, what moved from one build to another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql.types import StringType, StructField, StructType
from pyspark.sql.udtf import AnalyzeArgument, AnalyzeResult

from jobs.index.gates import drift
from jobs.index.searcher import Searcher
from jobs.sql.arguments import build_folder, expect, named_build_folder
from schemas.table import FLOAT, STRING

_SCHEMA = StructType(
    [
        StructField("item_id", STRING),
        StructField("title", STRING),
        StructField("category", STRING),
        StructField("change", STRING),
        StructField("drift", FLOAT),
    ]
)
# Vectors that are compared at once.
_ITEMS_AT_ONCE = 16_384


@dataclass
class DriftPlan(AnalyzeResult):
    """What the analysis hands to the worker: the folder of the build that was published then; None where none was."""

    published: str | None = None


def drift_function(*, indexes: str) -> type:
    """The handler of the table function, for `spark.udtf.register`.

    Args:
        indexes: Folder of all builds, a path or URL that workers reach.
    """

    class DriftBetween:
        """drift_between(build_a STRING, build_b STRING): a row for every item of either; build_b may be left out."""

        def __init__(self, plan: DriftPlan) -> None:
            self._plan = plan

        @staticmethod
        def analyze(build_a: AnalyzeArgument, build_b: AnalyzeArgument | None = None) -> DriftPlan:
            expect("drift_between", build_a=(build_a, StringType))
            if build_b is None:
                return DriftPlan(_SCHEMA, published=build_folder(indexes, None))
            expect("drift_between", build_a=(build_a, StringType), build_b=(build_b, StringType))
            return DriftPlan(_SCHEMA)

        def eval(self, build_a: str | None, build_b: str | None = None) -> Iterator[tuple]:
            after = self._plan.published or named_build_folder(indexes, build_b)
            yield from drift_rows(Searcher.open(named_build_folder(indexes, build_a)), Searcher.open(after))

    return DriftBetween


def drift_rows(before: Searcher, after: Searcher) -> Iterator[tuple]:
    """item_id, title, category, change (new, gone, changed, unchanged) and drift of every item of two builds.

    Drift is 1 - cosine of the item's two vectors, where both builds hold it and are of one model; else None.
    """
    names = ["item_id", "content_hash", "title", "category"]
    olds, news = (build.items(names).append_column("row", pa.array(np.arange(len(build)))) for build in (before, after))
    both = olds.join(news, keys="item_id", join_type="full outer", left_suffix="_before", right_suffix="_after")
    both = both.sort_by("item_id")
    is_comparable = before.manifest.model_version == after.manifest.model_version
    for start in range(0, len(both), _ITEMS_AT_ONCE):
        part = both.slice(start, _ITEMS_AT_ONCE).to_pydict()
        rows = [np.array([-1 if row is None else row for row in part[f"row_{when}"]]) for when in ("before", "after")]
        held = (rows[0] >= 0) & (rows[1] >= 0)
        moved = np.full(len(held), None, dtype=object)
        if is_comparable and held.any():
            moved[held] = drift(before.vectors(rows[0][held]), after.vectors(rows[1][held])).tolist()
        for place, item_id in enumerate(part["item_id"]):
            hashes = part["content_hash_before"][place], part["content_hash_after"][place]
            latest = "before" if hashes[1] is None else "after"
            described = (part[f"{name}_{latest}"][place] for name in ("title", "category"))
            yield item_id, *described, _change(*hashes), moved[place]


def _change(before: str | None, after: str | None) -> str:
    if before is None:
        return "new"
    if after is None:
        return "gone"
    return "unchanged" if before == after else "changed"
