"""Whether two lakes hold the same, whoever wrote what and when."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DoubleType, FloatType

from jobs.core.lake import Lake
from schemas import ALL_TABLES, INDEX_BUILDS, JOB_RUNS, QUERY_NEIGHBOURS
from schemas.table import Table

# How far two runs may be apart in a number that a model or an index computed: sums in another order round otherwise.
_TOLERANCE = 1e-4
# What says when, how fast or where somewhere else, and no column of the table is declared to be that.
_OF_THE_RUN = {INDEX_BUILDS.name: {"published_at"}}


def differences(one: Lake, other: Lake, *, only: Callable[[Table, DataFrame], DataFrame]) -> list[str]:
    """In which tables the lakes differ, and how; none when they hold the same.  The record of runs is left out.

    Args:
        one, other: The lakes.
        only: Given a table and its rows, those that are to be compared.
    """
    found = []
    for table in ALL_TABLES:
        if table is JOB_RUNS:
            continue
        frames = [_rows(table, only(table, lake.read(table))) for lake in (one, other)]
        found.extend(f"{table.name}: {what}" for what in _compared(table, *frames))
    return found


def _rows(table: Table, rows: DataFrame) -> pd.DataFrame:
    of_the_run = _OF_THE_RUN.get(table.name, set())
    names = [column.name for column in table.columns if not column.provenance and column.name not in of_the_run]
    rows = rows.select(*names)
    if table is INDEX_BUILDS:  # figures of gates hold milliseconds; verdicts are what counts
        verdicts = F.transform("gates", lambda gate: F.concat_ws(" ", gate["gate"], gate["passed"].cast("string")))
        rows = rows.withColumn("gates", F.array_sort(verdicts))
    return rows.toPandas()


def _compared(table: Table, one: pd.DataFrame, other: pd.DataFrame) -> list[str]:
    if len(one) != len(other):
        return [f"{len(one):,} rows against {len(other):,}"]
    approximate = [column.name for column in table.columns if column.name in one and _is_approximate(column.type)]
    exact = [name for name in one if name not in approximate]
    if table is QUERY_NEIGHBOURS:  # of items that score the same, either may stand first
        exact = [name for name in exact if name != "item_id"]
    one, other = (frame.sort_values(exact, key=_sortable, ignore_index=True) for frame in (one, other))
    found = [name for name in exact if not _sortable(one[name]).equals(_sortable(other[name]))]
    found += [name for name in approximate if not _are_close(one[name], other[name])]
    return [f"column {name} differs" for name in found]


def _is_approximate(kind: object) -> bool:
    return isinstance(kind, ArrayType | FloatType | DoubleType) and "StringType" not in str(kind)


def _sortable(column: pd.Series) -> pd.Series:
    return column.map(str)


def _are_close(one: pd.Series, other: pd.Series) -> bool:
    if one.isna().any() or other.isna().any():
        if not one.isna().equals(other.isna()):
            return False
        one, other = one.dropna(), other.dropna()
    return not len(one) or np.allclose(np.stack(one.to_numpy()), np.stack(other.to_numpy()), atol=_TOLERANCE)
