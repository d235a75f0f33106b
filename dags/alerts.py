"""Tell people what failed and what is late, by a webhook: the connection `make_webhook` says where; without it, nobody.

Its host is the whole address (https://chat.example.org/hooks/...), its password, if any, goes along as a bearer token.
What is posted is {"text": "..."}, which Slack, Mattermost and Teams' workflows take.
"""

import os
from datetime import timedelta

import httpx
from airflow.sdk import BaseHook, Context, DeadlineAlert, DeadlineReference, SyncCallback
from airflow.sdk.exceptions import AirflowNotFoundException

WEBHOOK = "make_webhook"
_TIMEOUT_S = 10


def tell_failure(context: Context) -> None:
    """Post which task of which run failed for good, with what its job said last.

    Raises:
        httpx.HTTPError: The address does not take it; Airflow writes that to the task's log, and the run goes on.
    """
    task, run = context["task_instance"], context["dag_run"]
    _tell(f"{run.dag_id}, {run.run_id}: {task.task_id} failed\n{context.get('exception')}\nlog: {task.log_url}")


def tell_late(context: dict) -> None:
    """Post which run has not ended by its deadline.

    Args:
        context: What Airflow knows of them, as JSON: dag_run, deadline.

    Raises:
        httpx.HTTPError: The address does not take it; Airflow writes that to the callback's log.
    """
    run, due = context["dag_run"], context["deadline"]["deadline_time"]
    _tell(f"{run['dag_id']}, {run['dag_run_id']}: is late, was due at {due}")


def night_is_late() -> DeadlineAlert | None:
    """Tells that a run has not ended so many hours after it was queued; None where MAKE_LATE_AFTER_HOURS names none."""
    if not (hours := float(os.environ.get("MAKE_LATE_AFTER_HOURS") or 0)):
        return None
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(hours=hours), callback=SyncCallback(tell_late)
    )


def _tell(text: str) -> None:
    try:
        webhook = BaseHook.get_connection(WEBHOOK)
    except AirflowNotFoundException:
        return
    headers = {"Authorization": f"Bearer {webhook.password}"} if webhook.password else {}
    httpx.post(webhook.host, json={"text": text}, headers=headers, timeout=_TIMEOUT_S).raise_for_status()
