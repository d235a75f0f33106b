"""Train MAKE on a window of the query log, evaluate it, and promote it if it is the better model."""

from datetime import UTC, datetime

from airflow.sdk import DAG, Param, TaskGroup, TriggerRule, chain
from spark import (
    CATALOG_POOL,
    DATE_PARAM,
    DATED,
    DEFAULT_ARGS,
    GPU_POOL,
    LOGICAL_DATE,
    PROMOTED_MODEL,
    QUERY_LOG_POOL,
    optional,
    spark_job,
)

WINDOW = (*DATED, f"--start={{{{ macros.ds_add({LOGICAL_DATE}, 1 - params.window_days) }}}}")

with DAG(
    dag_id="make_training",
    description=__doc__,
    schedule=None,  # someone decides to train; the nights go on under the serving model
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={
        "date": DATE_PARAM,
        "window_days": Param(14, type="integer", minimum=1, description="Days of query log to learn from."),
        "preset": Param(None, type=["null", "string"], description="Size of the model; null: the job's default."),
        "epochs": Param(None, type=["null", "integer"], minimum=1, description="Passes over the training set."),
        "batch_size": Param(None, type=["null", "integer"], minimum=2, description="Products a step and worker."),
        "max_minutes": Param(None, type=["null", "number"], exclusiveMinimum=0, description="Bound on training time."),
        "train_settings": Param(
            None,
            type=["null", "object"],
            description='Other fields of TrainSettings (docs/make.md): {"objectives": {"image_text_weight": 0.5}}.',
        ),
    },
    tags=["make"],
    doc_md="""
    Begins with the ingests of its window, which change nothing where the nights have done them already.
    A candidate that promotion refuses ends the task as skipped and the run as a success: the model before it goes on
    serving, and the report says why.
    Inputs come from the workers' environment, or the variable make_settings, as for `catalog_nightly`.
    """,
) as dag:
    with TaskGroup("catalog"):
        catalog = spark_job(
            "catalog",
            "ingest",
            doc="Take in the catalog's snapshot: `items`, `item_images`.",
            pool=CATALOG_POOL,
        )

    with TaskGroup("query_log"):
        log = spark_job(
            "query_log",
            "ingest",
            options=WINDOW,
            doc="Clean the window's query log: `query_events`.",
            pool=QUERY_LOG_POOL,
        )
        pairs = spark_job(
            "query_log",
            "pairs",
            options=(*DATED, "--window-days={{ params.window_days }}"),
            doc="Aggregate the window to `query_item_pairs` and the graph `similar_queries`.",
            pool=QUERY_LOG_POOL,
        )

    with TaskGroup("training"):
        build_set = spark_job("training", "build_set", doc="Join titles and photos, split in groups, write the set.")
        train = spark_job(
            "training",
            "train",
            options=(*DATED, *map(optional, ("preset", "epochs", "batch_size", "max_minutes", "train_settings"))),
            doc="Train MAKE; writes a model folder and a candidate in `models`.",
            pool=GPU_POOL,
        )
        evaluate = spark_job("training", "evaluate", doc="Measure the newest candidate, and the model it has to beat.")
        promote = spark_job(
            "training",
            "promote",
            doc="Promote the newest candidate if it is better; else skipped.",
            outlets=[PROMOTED_MODEL],
        )
        report = spark_job(
            "training",
            "report",
            doc="Write the model's page, promoted or refused.",
            trigger_rule=TriggerRule.NONE_FAILED,
        )

    chain(catalog, log, pairs, build_set, train, evaluate, promote, report)
