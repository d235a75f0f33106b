"""Let go of what the lake need not keep, keep its files few, and finish what takedowns have left so far."""

from datetime import UTC, datetime, timedelta

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
        # A takedown that cannot be finished fails the run before the next one is due, so that somebody looks.
        dagrun_timeout=timedelta(days=6),
        default_args=DEFAULT_ARGS,
        params={"date": DATE_PARAM},
        tags=["make"],
        doc_md="""
    How long things are kept is said by the workers' environment or the variable make_settings: MAKE_KEEP_BUILDS,
    MAKE_RETIRE_AFTER_DAYS, MAKE_MODEL_DAYS, MAKE_DELISTED_DAYS, MAKE_QUERY_EVENT_DAYS, MAKE_KEEP_TRAINING_SETS,
    MAKE_REPORT_DAYS, MAKE_HISTORY_DAYS and MAKE_RETENTION_HOURS. While something is being embedded under a model, a
    task fails and is tried again. Takedowns are begun by hand (`operations forget`); what was too young to go by then,
    or published, goes here.
    """,
    ) as dag,
    TaskGroup("operations"),
):
    maintain = spark_job(
        "operations",
        "maintain",
        doc="Remove old builds, models, events, training sets and reports, and vectors of models and items long gone.",
    )
    optimize = spark_job(
        "operations", "optimize", doc="Put small files of tables together, and remove those of old versions."
    )
    forget = spark_job(
        "operations",
        "forget",
        pause=timedelta(hours=6),
        doc="Finish takedowns that are pending; reschedules itself until nothing is left of their items.",
    )
    maintain >> optimize >> forget
