"""Publish the build that was published before, and hold nights from publishing until somebody releases them."""

from datetime import UTC, datetime

from airflow.sdk import DAG, Param, TaskGroup
from spark import DEFAULT_ARGS, PUBLISHED_INDEX, PUBLISHED_POOL, optional, spark_job

CONFIRMATION = "roll back"

with (
    DAG(
        dag_id="index_rollback",
        description=__doc__,
        schedule=None,  # somebody has seen what is published, and wants it gone
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        # Done twice, it would go back twice: whoever sees it fail looks at what is published before trying again.
        default_args={**DEFAULT_ARGS, "retries": 0},
        params={
            "confirm": Param(type="string", enum=[CONFIRMATION], description=f'Type "{CONFIRMATION}".'),
            "reason": Param(type="string", minLength=1, description="What is wrong with what is published."),
            "until": Param(
                None, type=["null", "string"], format="date", description="Last logical date that is held; null: none."
            ),
            "build_id": Param(
                None,
                type=["null", "string"],
                pattern="^build-[0-9a-f]+$",
                description="The build to go to; null: the one published before.",
            ),
        },
        tags=["make"],
        doc_md="""
    Takes seconds and rebuilds nothing: searches have the earlier build, and the model that made it, from then on.
    Nights go on to embed, build and check, and publish again after `until`, or once `index release` was run.
    """,
    ) as dag,
    TaskGroup("index"),
):
    spark_job(
        "index",
        "rollback",
        options=(
            "--by={{ dag_run.triggering_user_name or 'airflow' }}",
            "--reason={{ params.reason }}",
            *map(optional, ("until", "build_id")),
        ),
        doc="Publish an earlier build that proves intact, with a hold in the same commit.",
        outlets=[PUBLISHED_INDEX],
        pool=PUBLISHED_POOL,
    )
