"""One job of `jobs/` as an Airflow task: a spark-submit of its file, and nothing of its code."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Asset, Context, Param
from airflow.sdk.exceptions import AirflowException, AirflowRescheduleException, AirflowSkipException

# Where the jobs' files lie on the workers; beside dags/ unless they are deployed apart.
JOBS = Path(os.environ.get("MAKE_JOBS_DIR", Path(__file__).resolve().parents[1] / "jobs"))

# What a job says by its status: there is nothing for it, nor for those after it, to do; or it did a part, and asks to
# be run again.
EXIT_SKIPPED = 99
EXIT_AGAIN = 75
# Between two parts, other runs' tasks have their turn.
PAUSE = timedelta(seconds=5)

# Updated whenever a model is promoted.
PROMOTED_MODEL = Asset("make_promoted_model")

# A run that an asset or a person starts may have no logical date; then it is the day on which it was asked for.
LOGICAL_DATE = "params.date or (dag_run.logical_date or dag_run.run_after) | ds"
DATED = (f"--date={{{{ {LOGICAL_DATE} }}}}",)
DATE_PARAM = Param(
    None,
    type=["null", "string"],
    format="date",
    description="Logical date, for a run that is triggered without one.",
)

# Names this run in job_runs and in folder names; two DAGs may run for the same date.
_RUN_ID = "{{ dag.dag_id }}.{{ run_id | replace(':', '') | replace('+0000', 'Z') }}"

# A person who waits at a terminal sets the retries to 0.
DEFAULT_ARGS = {"retries": int(os.environ.get("MAKE_TASK_RETRIES", "2")), "retry_delay": timedelta(minutes=5)}


class SparkJobOperator(SparkSubmitOperator):
    """A spark-submit whose job may say, by its exit status, what is to become of the task and of all after it.

    Args:
        pause: How long a job that asks to be run again waits for it.
        arguments: Any argument of the operator above.
    """

    def __init__(self, *, pause: timedelta = PAUSE, **arguments) -> None:
        super().__init__(**arguments)
        self.pause = pause

    def execute(self, context: Context) -> None:
        """Submit the job.  Arguments that render to nothing are left out.

        Raises:
            AirflowSkipException: The job ended with `EXIT_SKIPPED`.
            AirflowRescheduleException: It ended with `EXIT_AGAIN`.
            AirflowException: It ended with any other status but 0.
        """
        self.application_args = [argument for argument in self.application_args if argument]
        try:
            super().execute(context)
        except AirflowException as error:
            # The hook keeps the process, and tells its status only inside a message.
            process = self._hook._submit_sp
            status = process.returncode if process is not None else None
            if status == EXIT_SKIPPED:
                raise AirflowSkipException("the job found nothing to do; its notes in job_runs say why") from error
            if status == EXIT_AGAIN:
                raise AirflowRescheduleException(datetime.now(UTC) + self.pause) from error
            raise


def spark_job(domain: str, job: str, *, doc: str, options: Sequence[str] = DATED, **arguments) -> SparkJobOperator:
    """The task of `jobs/<domain>/<job>.py`.

    Args:
        domain: Folder of the job.
        job: The file's name without `.py`; also the task's.
        doc: What the task does, in one line of Markdown.
        options: The job's command line, templated; an option that renders to nothing is left out.
        arguments: Any further argument of the operator, a trigger rule say, or how long it pauses.
    """
    return SparkJobOperator(
        task_id=job,
        application=str(JOBS / domain / f"{job}.py"),
        application_args=[f"--run-id={_RUN_ID}", *options],
        name=f"make {domain} {job}",
        conn_id="spark_default",
        properties_file=os.environ.get("MAKE_SPARK_PROPERTIES"),
        doc_md=doc,
        **arguments,
    )


def optional(name: str) -> str:
    """`--name=value` of a DAG parameter, or nothing where the parameter is null: the job has its own default."""
    value = f"params.{name} | tojson if params.{name} is mapping else params.{name}"
    return f"{{{{ '' if params.{name} is none else '--{name.replace('_', '-')}=' ~ ({value}) }}}}"
