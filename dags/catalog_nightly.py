"""The night: take in what changed, embed it, build an index, publish it if every gate holds, and report."""

from datetime import UTC, datetime

from airflow.sdk import DAG, CronDataIntervalTimetable, TaskGroup, TriggerRule, chain, task
from airflow.sdk.exceptions import AirflowFailException
from spark import DATE_PARAM, DEFAULT_ARGS, ITEM_EMBEDDINGS, PUBLISHED_INDEX, spark_job

with DAG(
    dag_id="catalog_nightly",
    description=__doc__,
    # 02:00 UTC: the run's logical date is the day before, whose log is then complete.
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={"date": DATE_PARAM},
    tags=["make"],
    doc_md="""
    A task whose job ends with status 99 (nothing to do: no model was promoted, say) is skipped, and so is what follows.
    The report is written all the same, and a night of which any task failed is a failed run.
    Inputs come from the workers' environment: MAKE_CATALOG, MAKE_IMAGES, MAKE_QUERY_LOG, MAKE_LAKE and, where there
    are judged queries, MAKE_JUDGED_QUERIES and MAKE_JUDGMENTS.
    """,
) as dag:
    with TaskGroup("catalog"):
        catalog = spark_job("catalog", "ingest", doc="Take in the catalog's snapshot: `items`, `item_images`.")

    with TaskGroup("query_log"):
        log = spark_job("query_log", "ingest", doc="Clean the date's query log: `query_events`.")

    with TaskGroup("embedding"):
        items = spark_job(
            "embedding",
            "items",
            doc="Embed the items that changed, under the serving model.",
            outlets=[ITEM_EMBEDDINGS],
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
