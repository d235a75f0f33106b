"""Let go of what the lake need not keep: vectors of models that serve no more and of items long gone, old events."""

from datetime import UTC, datetime

from airflow.sdk import DAG, CronTriggerTimetable, TaskGroup
from spark import DATE_PARAM, DEFAULT_ARGS, spark_job

with (
    DAG(
        dag_id="table_maintenance",
        description=__doc__,
        # Sundays at noon, far from the night; the logical date is the day itself.
        schedule=CronTriggerTimetable("0 12 * * 0", timezone="UTC"),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        params={"date": DATE_PARAM},
        tags=["make"],
        doc_md="""
    How long things are kept is said by the workers' environment: MAKE_RETIRE_AFTER_DAYS, MAKE_DELISTED_DAYS and
    MAKE_QUERY_EVENT_DAYS. While something is being embedded under a model, the task fails and is tried again.
    """,
    ) as dag,
    TaskGroup("operations"),
):
    spark_job("operations", "maintain", doc="Remove old models' vectors, delisted items' vectors, and old events.")
