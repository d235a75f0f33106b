"""A challenger is promoted unless it is worse, measured on the same judged queries."""

import datetime as dt

import pytest
from pyspark.sql import functions as F

from jobs.training import promote as job
from schemas import MODELS

DAY = dt.date(2026, 11, 2)


def add_candidate(lake, version: str, recall: float | None, judged_queries: float = 2.0) -> None:
    metrics = {} if recall is None else {"recall_at_10": recall, "judged_queries": judged_queries}
    row = lake.read(MODELS).where("stage = 'promoted'").first().asDict()
    created = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
    row |= {"model_version": version, "metrics": metrics, "stage": "candidate", "promoted_at": None}
    row["created_at"] = created
    lake.append(MODELS, lake.read(MODELS).sparkSession.createDataFrame([row], MODELS.schema))


def stage(lake, version: str) -> str:
    return lake.read(MODELS).where(F.col("model_version") == version).first()["stage"]


@pytest.mark.parametrize(("recall", "promoted"), [(0.6, True), (0.495, True), (0.4, False), (None, False)])
def test_a_challenger_must_not_be_worse_than_the_champion(lake, promoted_model, run_job, recall, promoted):
    add_candidate(lake, "make-new", recall)
    record = run_job(job, date=DAY)
    assert record["verdict"] == ("succeeded" if promoted else "failed")
    assert stage(lake, "make-new") == ("promoted" if promoted else "candidate")
    if not promoted:
        assert ("0.4000" if recall else "run `training evaluate` first") in record["notes"][-1]


def test_a_reason_promotes_in_any_case_and_is_recorded(lake, promoted_model, run_job):
    add_candidate(lake, "make-new", 0.1)
    record = run_job(job, date=DAY, reason="the old one cannot read Chinese")
    assert stage(lake, "make-new") == "promoted"
    assert "the old one cannot read Chinese" in record["notes"][-1]
    assert run_job(job, date=DAY)["verdict"] == "unchanged"


def test_figures_from_different_judged_queries_are_not_compared(lake, promoted_model, run_job):
    add_candidate(lake, "make-new", 0.1, judged_queries=50.0)
    assert run_job(job, date=DAY)["verdict"] == "succeeded"
