"""OpenLineage events of a job: that it began, how it ended, and which tables it read and wrote.

Nothing is sent, and nothing loaded, unless the environment names a collector in one of OpenLineage's own ways:
`OPENLINEAGE_URL`, `OPENLINEAGE_CONFIG` or `OPENLINEAGE__TRANSPORT...`.  A collector that does not answer is told in the
log, and changes nothing of the job.

Names of data sets: https://openlineage.io/docs/spec/naming.
"""

from __future__ import annotations

import logging
import os
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.core.lake import root_uri

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import RunEvent

    from jobs.core.job import JobRun
    from schemas.table import Table

_CONFIGURATIONS = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT")
# Who started the job, each as namespace/job/run: Airflow's task, and its DAG's run.
_ANCESTORS = ("OPENLINEAGE_PARENT_ID", "OPENLINEAGE_ROOT_PARENT_ID")
_PRODUCER = "https://pypi.org/project/openlineage-python"
_log = logging.getLogger(__name__)


class RunName(NamedTuple):
    """What OpenLineage knows a run by."""

    namespace: str
    job: str
    run_id: str


class Lineage:
    """The events of one job's run.

    Args:
        job: The run.
    """

    def __init__(self, job: JobRun) -> None:
        self._job = job
        words = job.name.replace("-", "_").split()
        namespace = os.environ.get("OPENLINEAGE_NAMESPACE") or "default"
        self._name = RunName(namespace, ".".join(("make", *words)), str(uuid.uuid4()))
        said = [os.environ.get(name, "").rsplit("/", 2) for name in _ANCESTORS]
        self._ancestors = [RunName(*parts) for parts in said if len(parts) == len(RunName._fields)]
        self._client: OpenLineageClient | None = None

    @property
    def spark_settings(self) -> dict[str, str]:
        """What puts the events of Spark's own listener, where a cluster has it, below the job's."""
        if not _is_configured():
            return {}
        settings = {"spark.openlineage.namespace": self._name.namespace}
        for role, run in (("parent", self._name), ("rootParent", (self._ancestors or [self._name])[-1])):
            settings[f"spark.openlineage.{role}JobNamespace"] = run.namespace
            settings[f"spark.openlineage.{role}JobName"] = run.job
            settings[f"spark.openlineage.{role}RunId"] = run.run_id
        return settings

    def began(self) -> None:
        """Tell that the job is at work."""
        self._emit("START")

    def ended(self, verdict: str, last_note: str) -> None:
        """Tell how the job ended, and what it read and wrote.

        Args:
            verdict: As in `job_runs`.
            last_note: Of a run that failed, why.
        """
        self._emit("FAIL" if verdict == "failed" else "COMPLETE", verdict, last_note)

    def _emit(self, state: str, verdict: str | None = None, last_note: str = "") -> None:
        if not _is_configured():
            return
        try:
            from openlineage.client import OpenLineageClient

            self._client = self._client or OpenLineageClient()
            self._client.emit(self._event(state, verdict, last_note))
        except Exception:
            _log.warning("lineage: %s of %s could not be sent", state, self._name.job, exc_info=True)

    def _event(self, state: str, verdict: str | None, last_note: str) -> RunEvent:
        from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
        from openlineage.client.facet_v2 import job_type_job

        access, kind = self._job.access, job_type_job.JobTypeJobFacet("BATCH", "SPARK", "JOB")
        inputs = [InputDataset(*self._table_name(table), facets=_table_facets(table)) for table in access.read.values()]
        inputs += [InputDataset(*self._source_name(path)) for path in access.sources]
        outputs = [
            OutputDataset(*self._table_name(table), facets=_table_facets(table)) for table in access.written.values()
        ]
        return RunEvent(
            eventType=RunState[state],
            eventTime=datetime.now(UTC).isoformat(),
            run=Run(self._name.run_id, self._run_facets(state, verdict, last_note)),
            job=Job(self._name.namespace, self._name.job, {"jobType": kind}),
            producer=_PRODUCER,
            inputs=inputs,
            outputs=outputs,
        )

    def _run_facets(self, state: str, verdict: str | None, last_note: str) -> dict[str, Any]:
        from openlineage.client.facet_v2 import error_message_run, nominal_time_run, parent_run, tags_run

        tags = {"run_id": self._job.run_id, "verdict": verdict}
        fields = [tags_run.TagsRunFacetFields(key, value, "make") for key, value in tags.items() if value]
        facets: dict[str, Any] = {"tags": tags_run.TagsRunFacet(fields)}
        if self._job.logical_date is not None:
            facets["nominalTime"] = nominal_time_run.NominalTimeRunFacet(f"{self._job.logical_date}T00:00:00Z")
        if state == "FAIL":
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(last_note, "PYTHON")
        if self._ancestors:
            parent, root = self._ancestors[0], self._ancestors[-1]
            facets["parent"] = parent_run.ParentRunFacet(
                run=parent_run.Run(parent.run_id),
                job=parent_run.Job(parent.namespace, parent.job),
                root=parent_run.Root(
                    run=parent_run.RootRun(root.run_id), job=parent_run.RootJob(root.namespace, root.job)
                ),
            )
        return facets

    def _table_name(self, table: Table) -> tuple[str, str]:
        return dataset_name(f"{root_uri(self._job.options.lake)}/tables/{table.name}")

    def _source_name(self, path: str) -> tuple[str, str]:
        namespace, name = dataset_name(root_uri(path))
        # What comes anew every day has one name, so that its days are one data set.
        return namespace, name.replace(f"{self._job.logical_date}", "{date}")


def dataset_name(uri: str) -> tuple[str, str]:
    """Namespace and name of what lies at an absolute address.

    Returns:
        `file` and the path of a local one; `s3://bucket` and the key without a leading slash of one in a store.
    """
    scheme, _, place = uri.partition("://")
    store, _, key = place.partition("/")
    if not store:
        return "file", f"/{key}"
    scheme = "s3" if scheme == "s3a" else scheme
    return f"{scheme}://{store}", f"/{key}" if scheme == "hdfs" else key


def _is_configured() -> bool:
    return any(value and name.startswith(_CONFIGURATIONS) for name, value in os.environ.items())


def _table_facets(table: Table) -> dict[str, Any]:
    from openlineage.client.facet_v2 import documentation_dataset, schema_dataset

    fields = [
        schema_dataset.SchemaDatasetFacetFields(column.name, column.type.simpleString(), column.comment)
        for column in table.columns
    ]
    return {
        "schema": schema_dataset.SchemaDatasetFacet(fields),
        "documentation": documentation_dataset.DocumentationDatasetFacet(table.comment),
    }
