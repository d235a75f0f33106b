"""Tell people what failed, by a webhook: the connection `make_webhook` says where, and without it nobody is told.

Its host is the whole address (https://chat.example.org/hooks/...), its password, if any, goes along as a bearer token.
What is posted is {"text": "..."}, which Slack, Mattermost and Teams' workflows take.
"""

import httpx
from airflow.sdk import BaseHook, Context
from airflow.sdk.exceptions import AirflowNotFoundException

WEBHOOK = "make_webhook"
_TIMEOUT_S = 10


def tell_failure(context: Context) -> None:
    """Post which task of which run failed for good, with what its job said last.

    Raises:
        httpx.HTTPError: The address does not take it; Airflow writes that to the task's log, and the run goes on.
    """
    try:
        webhook = BaseHook.get_connection(WEBHOOK)
    except AirflowNotFoundException:
        return
    task, run = context["task_instance"], context["dag_run"]
    text = f"{run.dag_id}, {run.run_id}: {task.task_id} failed\n{context.get('exception')}\nlog: {task.log_url}"
    headers = {"Authorization": f"Bearer {webhook.password}"} if webhook.password else {}
    answer = httpx.post(webhook.host, json={"text": text}, headers=headers, timeout=_TIMEOUT_S)
    answer.raise_for_status()
