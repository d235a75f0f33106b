"""A plan says what a run would do and cost; it opens no model and writes nothing."""

import datetime as dt
import shutil
from pathlib import Path

import pytest
from pyspark.sql import Row

from jobs.core.options import OptionsError, parse_options
from jobs.embedding import items as job
from jobs.embedding.plan import PastRun
from schemas import EMBEDDING_FAILURES, ITEM_EMBEDDINGS, JOB_RUNS
from tests.embedding.products import DAY, NEXT_DAY, put_items
from tests.photos import jpeg

PAST = PastRun("r", "m", items=40_000, fixed_seconds=20.0, item_seconds=0.002, item_cpu_seconds=0.003, slots=2)


@pytest.mark.parametrize(
    ("items", "executors", "seconds"),
    [
        (0, 1, 20),
        (100, 1, 20 + 100 * 0.002),  # one task, whose photos another core decodes
        (44_000, 1, 20 + 44_000 * 0.003 / 2),  # both cores are busy
        (44_000, 4, 20 + 44_000 * 0.003 / 8),
        (300, 4, 20 + 300 * 0.002 / 3),  # three tasks for eight cores
    ],
)
def test_a_prediction_takes_what_comes_once_and_what_comes_with_every_item(items, executors, seconds):
    assert PAST.predict(items, executors=executors) == pytest.approx(seconds)


def test_executors_are_asked_about_and_not_ordered():
    with pytest.raises(OptionsError, match="--executors only goes with --plan"):
        parse_options(job.Options, ["--date", "2026-11-01", "--executors", "8"])


def test_a_row_that_replaces_another_costs_the_merge_more_than_one_that_is_added():
    assert PAST.predict(10_000, replaced=10_000) == pytest.approx(PAST.predict(10_000) + 2.0)
    assert PAST.predict(10_000, replaced=10_000, executors=4) == pytest.approx(PAST.predict(10_000, executors=4) + 0.5)


def test_a_run_predicts_itself():
    began = dt.datetime(2026, 11, 1)
    paced = {"slots": 2.0, "paced_items": 30_000.0, "paced_seconds": 75.0, "paced_cpu_seconds": 60.0}
    paced |= {"items_new": 29_000.0, "items_title_changed": 10_000.0, "items_retry": 1_000.0}
    record = Row(
        run_id="r", model_version="m", figures=paced, rows_out=39_990, rows_rejected=10,
        started_at=began, finished_at=began + dt.timedelta(seconds=81),
    )  # fmt: skip
    past = PastRun.of(record)
    assert past.fixed_seconds == pytest.approx(81 - 40_000 * 0.0025 / 2 - 10_000 * 0.0002)
    assert past.predict(40_000, replaced=10_000) == pytest.approx(81)


@pytest.fixture
def said(monkeypatch, tmp_path, run_job):
    """What `embedding items --plan` prints."""

    def plan(**options) -> str:
        file = tmp_path / "console"
        file.unlink(missing_ok=True)
        monkeypatch.setenv("MAKE_CONSOLE", str(file))
        run_job(job, date=NEXT_DAY, plan=True, **options)
        monkeypatch.delenv("MAKE_CONSOLE")
        return file.read_text()

    return plan


@pytest.mark.slow
def test_a_plan_says_what_and_why_and_leaves_no_trace(lake, spark, run_job, promoted_model, said):
    photo = jpeg("red")
    put_items(
        lake, spark, ("a", "red dress", photo), ("b", "blue shirt", photo), ("c", "hat", None), ("d", "shoe", None)
    )
    versions = lake.versions(ITEM_EMBEDDINGS, EMBEDDING_FAILURES, JOB_RUNS)
    model = Path(lake.path("models", promoted_model))
    shutil.move(model, model.with_name("elsewhere"))
    text = said()
    assert "items to embed  4 of 4 active ones: 4 new" in text
    assert f"{len(photo):,} bytes of photos, 26 bytes of titles" in text
    assert "table grows by  about 992 bytes" in text  # 4 x (32 floats and what stands beside them)
    assert "unknown: no run has embedded enough items yet" in text
    assert lake.versions(ITEM_EMBEDDINGS, EMBEDDING_FAILURES, JOB_RUNS) == versions
    assert not Path(lake.path("leases")).exists()

    shutil.move(model.with_name("elsewhere"), model)
    past = run_job(job, date=DAY, batch_size=1)
    assert past["figures"]["paced_items"] == 3
    put_items(lake, spark, ("c", "straw hat", None))
    text = said(executors=3)
    assert "items to embed  1 of 4 active ones: 1 title changed" in text
    assert f"on 3 executors of that size; from run {past['run_id']} over 4 items under {promoted_model}" in text
    run_job(job, date=NEXT_DAY)
    assert "no model is opened" in said()
