"""One job of `jobs/` as an Airflow task: a spark-submit of its file, and nothing of its code."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.openlineage import conf as lineage
from airflow.sdk import Asset, Context, Param, Variable
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)
from alerts import tell_failure

# Where the jobs' files lie on the workers; beside dags/ unless they are deployed apart.
JOBS = Path(os.environ.get("MAKE_JOBS_DIR", Path(__file__).resolve().parents[1] / "jobs"))

# What a job says by its status: there is nothing for it, nor for those after it, to do; or it did a part, and asks to
# be run again.
EXIT_SKIPPED = 99
EXIT_AGAIN = 75
# Between two parts, other runs' tasks have their turn.
PAUSE = timedelta(seconds=5)

# Updated when a model was promoted, and when vectors and the published build are up to date, changed or not.
PROMOTED_MODEL = Asset("make_promoted_model")
ITEM_EMBEDDINGS = Asset("make_item_embeddings")
PUBLISHED_INDEX = Asset("make_published_index")

# Whose tasks wait for each other, whichever DAG they are of (conf/airflow/pools.json); vectors of a model have one
# writer because no DAG has two runs at once, and each writes those of another model.
CATALOG_POOL = "make_catalog"
QUERY_LOG_POOL = "make_query_log"
PUBLISHED_POOL = "make_published"
GPU_POOL = "make_gpu"
# A variable: {"MAKE_...": "..."}, settings of the jobs beyond those of the workers' environment, and before them.
SETTINGS = "make_settings"
_SETTING = re.compile(r"MAKE_[A-Z0-9_]+")

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

# A person who waits at a terminal sets the retries to 0.  A job that hangs ends before the next night is due.
DEFAULT_ARGS = {
    "owner": "make",
    "retries": int(os.environ.get("MAKE_TASK_RETRIES", "2")),
    "retry_delay": timedelta(minutes=float(os.environ.get("MAKE_RETRY_MINUTES", "5"))),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(hours=1),
    "execution_timeout": timedelta(hours=12),
}

# The line of a job that failed; what is indented below it says why.
_FAILED = re.compile(r"\S.* FAILED +\d")
# What YARN and Kubernetes say of a driver in cluster mode.
_EXITED = re.compile(r"(?:exited with status |exit_code=)(\d+)")


class SparkJobOperator(SparkSubmitOperator):
    """A spark-submit whose job may say, by its exit status, what is to become of the task and of all after it.

    Args:
        pause: How long a job that asks to be run again waits for it.
        arguments: Any argument of the operator above.
    """

    def __init__(self, *, pause: timedelta = PAUSE, **arguments) -> None:
        super().__init__(on_failure_callback=tell_failure, **arguments)
        self.pause = pause
        self._complaint: list[str] = []

    def execute(self, context: Context) -> None:
        """Submit the job, with the settings of the variable `SETTINGS`.  Arguments that render to nothing are left out.

        Raises:
            AirflowFailException: The variable is not a JSON object of such settings.
            AirflowSkipException: The job ended with `EXIT_SKIPPED`.
            AirflowRescheduleException: It ended with `EXIT_AGAIN`.
            AirflowException: It ended with any other status but 0; the message is what it said last.
        """
        self.application_args = [argument for argument in self.application_args if argument]
        self.env_vars = {**_settings(), **_lineage(context)}
        try:
            super().execute(context)
        except (AirflowException, RuntimeError) as error:
            status = self._status_of_job(error)
            if status == EXIT_SKIPPED:
                raise AirflowSkipException("the job found nothing to do; its notes in job_runs say why") from error
            if status == EXIT_AGAIN:
                raise AirflowRescheduleException(datetime.now(UTC) + self.pause) from error
            if not self._complaint:
                raise
            raise AirflowException("\n".join(self._complaint)) from None  # a command line would hide it

    def _status_of_job(self, error: AirflowException) -> int | None:
        # The hook keeps the process, and tells its status only inside a message.
        if self._hook._connection["deploy_mode"] == "cluster":  # spark-submit's own status is not the driver's then
            told = _EXITED.search(str(error))
            return int(told[1]) if told else None
        process = self._hook._submit_sp
        return process.returncode if process is not None else None

    def _get_hook(self) -> SparkSubmitHook:
        hook = super()._get_hook()
        # Then a try that follows a lost one finds the driver that is at work, and waits for it.
        hook._yarn_track_via_rm_api = hook._is_yarn_cluster_mode
        hook._track_driver_via_k8s_api = hook._is_kubernetes and hook._connection["deploy_mode"] == "cluster"
        if hook._track_driver_via_k8s_api:
            hook._validate_track_driver_via_k8s_api_config()
        read = hook._process_spark_submit_log
        hook._process_spark_submit_log = lambda lines: read(self._listened(lines))
        return hook

    def _listened(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            if _FAILED.match(line):
                self._complaint = [line.strip()]
            elif self._complaint and line.startswith("  "):
                self._complaint.append(line.strip())
            yield line


def _settings() -> dict[str, str]:
    settings = Variable.get(SETTINGS, default={}, deserialize_json=True)
    if not isinstance(settings, dict) or not all(_SETTING.fullmatch(name) for name in settings):
        raise AirflowFailException(
            f'variable {SETTINGS}: expected {{"MAKE_...": "...", ...}}, got {settings}: change it and clear this task'
        )
    return {name: str(value) for name, value in settings.items()}


def _lineage(context: Context) -> dict[str, str]:
    """What the job sends its own OpenLineage events with, below this task's; nothing where Airflow sends none."""
    if lineage.is_disabled():
        return {}
    # Loaded where it is wanted only: each costs a task seconds.
    from airflow.providers.openlineage.plugins.listener import get_openlineage_listener
    from airflow.providers.openlineage.plugins.macros import lineage_parent_id, lineage_root_parent_id

    task = context["ti"]
    variables = {
        "OPENLINEAGE_NAMESPACE": lineage.namespace(),
        "OPENLINEAGE_PARENT_ID": lineage_parent_id(task),
        "OPENLINEAGE_ROOT_PARENT_ID": lineage_root_parent_id(task),
    }
    # Of Airflow's own settings; what its environment says of OpenLineage the job inherits.
    config = get_openlineage_listener().adapter.get_openlineage_config()
    if config and "transport" in config:
        variables["OPENLINEAGE__TRANSPORT"] = json.dumps(config["transport"])
    return variables


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
        application_args=[f"--run-id={_RUN_ID}", "--attempt={{ ti.try_number }}", *options],
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
