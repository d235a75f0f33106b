"""`encode_query(text)`: the vector of a text, by the model of the published build."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import pandas_udf

from schemas import INDEX_BUILDS
from schemas.table import FLOATS

_NAME, _WITH_MODEL = "encode_query", "encode_query_with"


def register_encode_query(spark: SparkSession, *, database: str, models: str) -> list[str]:
    """Make it known to the session; returns the names that are new.

    `encode_query_with(model_version, text)` is what SQL's `encode_query(text)` calls with the model of the published
    build, which is read when a query is analysed, like every table of it: so vectors fit those of `current_items`.

    Args:
        spark: The session.
        database: Where the lake's tables are known by name, index_builds among them.
        models: Folder of all models, a path or URL that workers reach.
    """

    @pandas_udf(FLOATS)
    def encode(batches: Iterator[tuple[pd.Series, pd.Series]]) -> Iterator[pd.Series]:
        from jobs.embedding.inference import open_encoder

        for versions, texts in batches:
            is_asked = (versions.notna() & texts.notna() & (texts.str.strip() != "")).to_numpy(dtype=bool)
            vectors = np.full(len(texts), None, dtype=object)
            # A constant comes once a row: each text is encoded once a batch.
            for version, asked in texts[is_asked].groupby(versions[is_asked]):
                codes, distinct = pd.factorize(asked)
                encoded = open_encoder(f"{models}/{version}", threads=1).embed_queries(distinct.tolist())
                vectors[texts.index.get_indexer(asked.index)] = list(encoded[codes])
            yield pd.Series(vectors)

    spark.udf.register(_WITH_MODEL, encode)
    serving = f"(SELECT model_version FROM {database}.{INDEX_BUILDS.name} WHERE status = 'published')"  # noqa: S608 - declared names
    spark.sql(
        f"CREATE OR REPLACE TEMPORARY FUNCTION {_NAME}(text STRING) RETURNS ARRAY<FLOAT> "
        f"RETURN {_WITH_MODEL}({serving}, text)"
    )
    return [_NAME, _WITH_MODEL]
