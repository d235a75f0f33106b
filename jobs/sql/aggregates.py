"""`vector_sum` and `vector_avg`: aggregates over vectors, by the names and rules that Spark has from 4.2 on.

A NULL vector, and one with a NULL (or NaN) in it, counts as absent; a group without any gives NULL; vectors of
different length are an error.  Spark 4.0 knows no aggregate that SQL alone defines, so these are Python's: a session's
own, and not to be mixed with other aggregates in one SELECT.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf

from schemas.table import FLOATS


def register_aggregates(spark: SparkSession, *, but: Collection[str]) -> list[str]:
    """Make them known to the session, but for those that Spark brings; returns the names that are new."""

    @pandas_udf(FLOATS)
    def vector_sum(vectors: pd.Series) -> list:
        there = _there("vector_sum", vectors)
        return there.sum(axis=0, dtype=np.float64).astype(np.float32) if len(there) else None

    @pandas_udf(FLOATS)
    def vector_avg(vectors: pd.Series) -> list:
        there = _there("vector_avg", vectors)
        return there.mean(axis=0, dtype=np.float64).astype(np.float32) if len(there) else None

    aggregates = {"vector_sum": vector_sum, "vector_avg": vector_avg}
    missing = [name for name in aggregates if name not in but]
    for name in missing:
        spark.udf.register(name, aggregates[name])
    return missing


def _there(name: str, vectors: pd.Series) -> np.ndarray:
    """(vectors, dimension) float32: those that count.

    Raises:
        ValueError: They differ in length.
    """
    there = [vector for vector in vectors if vector is not None and not np.isnan(vector).any()]
    lengths = sorted({len(vector) for vector in there})
    if len(lengths) > 1:
        raise ValueError(
            f"{name}: expected vectors of one length, got {' and '.join(map(str, lengths))}; "
            "vectors compare within one model_version"
        )
    return np.stack(there) if there else np.empty((0, 0), np.float32)
