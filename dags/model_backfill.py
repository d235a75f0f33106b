"""Put the model promoted last before the people who search: embed everything under it, index, check, publish."""

from datetime import UTC, datetime

from airflow.sdk import DAG, Param, TaskGroup, chain
from spark import (
    DATE_PARAM,
    DATED,
    DEFAULT_ARGS,
    GPU_POOL,
    ITEM_EMBEDDINGS,
    PROMOTED_MODEL,
    PUBLISHED_INDEX,
    PUBLISHED_POOL,
    spark_job,
)

OF_PROMOTED = (*DATED, "--model-version=promoted")

with DAG(
    dag_id="model_backfill",
    description=__doc__,
    schedule=[PROMOTED_MODEL],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={
        "date": DATE_PARAM,
        "slice_minutes": Param(
            60, type="number", exclusiveMinimum=0, description="After so long other runs' tasks have their turn."
        ),
    },
    tags=["make"],
    doc_md="""
    Runs whenever `make_training` has promoted a model; its date is then the day on which that was. Nights go on under
    the model that serves until the new one's build is published, and under the new one afterwards. Where the model
    promoted last serves already, everything is skipped.
    """,
) as dag:
    with TaskGroup("embedding"):
        backfill = spark_job(
            "embedding",
            "backfill",
            options=(*DATED, "--max-minutes={{ params.slice_minutes }}"),
            doc="Embed all active items under the model; reschedules itself until none is left.",
            outlets=[ITEM_EMBEDDINGS],
            pool=GPU_POOL,
        )
        queries = spark_job("embedding", "queries", options=OF_PROMOTED, doc="Embed the head queries of the log.")

    with TaskGroup("index"):
        build = spark_job("index", "build", options=OF_PROMOTED, doc="Build the index of the model's vectors.")
        check = spark_job("index", "check", options=OF_PROMOTED, doc="Measure the build's gates.")
        publish = spark_job(
            "index",
            "publish",
            options=OF_PROMOTED,
            doc="Publish it if every gate holds.",
            outlets=[PUBLISHED_INDEX],
            pool=PUBLISHED_POOL,
        )

    chain(backfill, queries, build, check, publish)
