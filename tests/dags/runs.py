"""Whole runs of a DAG by Airflow itself, in this process."""

import importlib
from datetime import UTC, datetime
from types import ModuleType

DATE = datetime(2026, 11, 20, tzinfo=UTC)


def states_of(module: ModuleType, **arguments) -> tuple[str, dict[str, str]]:
    """State of the run, and of each of its tasks."""
    dag = importlib.reload(module).dag  # a run in this process leaves its parameters in the DAG
    run = dag.test(**{"logical_date": DATE, **arguments})
    return run.state, {task.task_id: task.state for task in run.get_task_instances()}
