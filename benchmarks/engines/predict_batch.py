"""Spark's `predict_batch_udf`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql.types import ArrayType, FloatType

from benchmarks.engines.products import BATCH_SIZE, CORES, embed, open_encoder, time_engine
from jobs.core.session import open_session


def embed_products(model: str, file: Path, output: Path) -> None:
    """Embed a file, a task a core."""

    def make_predict() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        encoder = open_encoder(model, threads=1)
        return lambda titles, photos: embed(encoder, titles.tolist(), photos.tolist())

    predict = predict_batch_udf(make_predict, return_type=ArrayType(FloatType()), batch_size=BATCH_SIZE)
    spark = open_session("predict_batch_udf")
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 8 * BATCH_SIZE)
    products = spark.read.parquet(str(file)).repartition(CORES)
    vectors = products.select("item_id", predict("title", "photo").alias("embedding"))
    vectors.write.mode("overwrite").parquet(str(output))


if __name__ == "__main__":
    time_engine(embed_products)
