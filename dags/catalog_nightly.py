"""The night: take in what changed, embed it, build an index, publish it if every gate holds, and report."""

from datetime import UTC, datetime

from airflow.sdk import DAG, CronDataIntervalTimetable, TaskGroup, TriggerRule, chain, task
from airflow.sdk.exceptions import AirflowFailException
from alerts import night_is_late
from spark import (
    CATALOG_POOL,
    DATE_PARAM,
    DEFAULT_ARGS,
    GPU_POOL,
    ITEM_EMBEDDINGS,
    PUBLISHED_INDEX,
    PUBLISHED_POOL,
    QUERY_LOG_POOL,
    spark_job,
)

with DAG(
    dag_id="catalog_nightly",
    description=__doc__,
    # 02:00 UTC: the run's logical date is the day before, whose log is then complete.
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    deadline=night_is_late(),
    default_args=DEFAULT_ARGS,
    params={"date": DATE_PARAM},
    tags=["make"],
    doc_md="""
    A task whose job ends with status 99 (nothing to do: no model was promoted, say) is skipped, and so is what follows.
    The report is written all the same, and a night of which any task failed is a failed run.
    Inputs come from the workers' environment: MAKE_CATALOG, MAKE_IMAGES, MAKE_QUERY_LOG, MAKE_LAKE and, where there
    are judged queries, MAKE_JUDGED_QUERIES and MAKE_JUDGMENTS; or from the variable make_settings.
    Missed nights are caught up one at a time: `airflow backfill create --max-active-runs 1` (docs/airflow.md).
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
        log = spark_job("query_log", "ingest", doc="Clean the date's query log: `query_events`.", pool=QUERY_LOG_POOL)

    with TaskGroup("embedding"):
        items = spark_job(
            "embedding",
            "items",
            doc="Embed the items that changed, under the serving model.",
            outlets=[ITEM_EMBEDDINGS],
            pool=GPU_POOL,
        )
        queries = spark_job("embedding", "queries", doc="Embed the head queries of the log.")

    with TaskGroup("index"):
        build = spark_job("index", "build", doc="Build the sharded FAISS index of all active items.")
        check = spark_job("index", "check", doc="Measure the build's gates: recall, coverage, norms, judged queries.")
        publish = spark_job(
            "index",
            "publish",
            doc="Publish the build if every gate holds and no hold stands.",
            outlets=[PUBLISHED_INDEX],
            pool=PUBLISHED_POOL,
        )

    with TaskGroup("operations"):
        report = spark_job(
            "operations",
            "report",
            doc="Write the night's page, whatever became of the tasks before it.",
            trigger_rule=TriggerRule.ALL_DONE,
        )

    @task(trigger_rule=TriggerRule.ONE_FAILED, retries=0, doc_md="Fails the run when any task of it failed.")
    def watch() -> None:
        raise AirflowFailException("a task of this night failed")

    steps = [catalog, log, items, queries, build, check, publish, report]
    chain(*steps)
    steps >> watch()
