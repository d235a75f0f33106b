"""A candidate's vectors come beside the serving model's, slice by slice, and keep no night waiting."""

import datetime as dt

import numpy as np
import pytest
from pyspark.sql import functions as F

from benchmarks.lakes import put_candidate
from jobs.core.lease import held_lease
from jobs.core.serving import named_model
from jobs.embedding import backfill as job
from jobs.embedding import items as nightly
from jobs.embedding.vectors import lease_name
from models.encoder import Encoder
from schemas import INDEX_BUILDS, ITEM_EMBEDDINGS
from tests.embedding.products import DAY, NEXT_DAY, put_items
from tests.photos import jpeg

TITLES = {"a": "red dress", "b": "blue shirt", "c": "hat", "d": "shoe", "e": "bag"}


def of_model(lake, version: str) -> dict[str, list[float]]:
    rows = lake.read(ITEM_EMBEDDINGS).where(F.col("model_version") == version).collect()
    return {row["item_id"]: row["embedding"] for row in rows}


@pytest.fixture
def candidate(lake, spark, promoted_model, tmp_path) -> str:
    """Five items; `promoted_model` serves, and this model was promoted after it."""
    put_items(lake, spark, *((item, title, jpeg("red") if item < "c" else None) for item, title in TITLES.items()))
    version = put_candidate(lake, spark, tmp_path / "next")
    build = dict.fromkeys(INDEX_BUILDS.column_names) | {
        "build_id": "b", "logical_date": DAY, "model_version": promoted_model, "items": 5, "dimension": 32, "shards": 1,
        "index_key": "Flat", "delta_versions": {}, "gates": [], "status": "published",
        "built_at": dt.datetime(2026, 11, 1, tzinfo=dt.UTC),
    }  # fmt: skip
    lake.append(INDEX_BUILDS, spark.createDataFrame([build], INDEX_BUILDS.schema))
    return version


@pytest.mark.slow
def test_the_candidate_gets_a_vector_of_every_item_and_the_serving_model_keeps_its_own(
    lake, run_job, candidate, promoted_model
):
    assert (named_model(lake, None), named_model(lake, "promoted")) == (promoted_model, candidate)
    run_job(nightly, date=DAY)
    serving = of_model(lake, promoted_model)
    assert set(serving) == set(TITLES)
    record = run_job(job, date=DAY, slice_size=2)
    assert (record["rows_in"], record["rows_out"], record["rows_rejected"]) == (5, 5, 0)
    assert (record["figures"]["items_left"], record["notes"]) == (0, [])
    assert [record["figures"][f"image_{status}"] for status in ("ok", "missing", "broken")] == [2, 3, 0]
    assert of_model(lake, promoted_model) == serving
    encoder = Encoder.from_folder(lake.local_dir("models", candidate))
    expected = encoder.embed_items(encoder.prepare_items(["hat"], [None])).embedding[0]
    stored = of_model(lake, candidate)
    assert set(stored) == set(TITLES)
    np.testing.assert_allclose(stored["c"], expected, atol=1e-5)

    version = lake.version(ITEM_EMBEDDINGS)
    assert run_job(job, date=DAY)["verdict"] == "unchanged"
    assert lake.version(ITEM_EMBEDDINGS) == version


def test_a_run_ends_between_slices_and_the_next_goes_on(lake, spark, run_job, candidate, monkeypatch):
    clock = iter(range(0, 10_000, 60))
    monkeypatch.setattr(job.time, "monotonic", lambda: float(next(clock)))
    first = run_job(job, date=DAY, slice_size=2, max_minutes=1.5)
    assert (first["rows_out"], first["figures"]["items_left"]) == (2, 3)
    assert first["notes"] == ["3 of 5 items are left: run this again"]
    done = of_model(lake, candidate)
    put_items(lake, spark, ("f", "scarf", None))
    second = run_job(job, date=NEXT_DAY, slice_size=2)
    assert (second["rows_out"], second["figures"]["items_left"]) == (4, 0)
    after = of_model(lake, candidate)
    assert set(after) == {*TITLES, "f"}
    assert {item: after[item] for item in done} == done

    put_items(lake, spark, ("g", "belt", None))
    night = run_job(nightly, date=NEXT_DAY, model_version=candidate)
    assert (night["rows_out"], night["notes"], night["figures"]["items_new"]) == (1, [], 1)


def test_a_run_that_is_late_before_its_first_slice_does_that_slice(lake, run_job, candidate):
    record = run_job(job, date=DAY, slice_size=2, max_minutes=1e-6)
    assert (record["rows_out"], record["figures"]["items_left"]) == (2, 3)


def test_the_night_and_the_backfill_do_not_wait_for_each_other(lake, run_job, candidate, promoted_model):
    class Holder:
        run_id, name, note = "another", "embedding backfill", print

    Holder.lake = lake
    with held_lease(Holder, lease_name(candidate)):
        assert run_job(nightly, date=DAY)["verdict"] == "succeeded"
        refused = run_job(job, date=DAY)
    assert (refused["verdict"], of_model(lake, candidate)) == ("failed", {})
    assert "is at work" in refused["notes"][-1]
    assert set(of_model(lake, promoted_model)) == set(TITLES)


def test_a_plan_of_the_backfill_opens_no_model(lake, run_job, candidate, monkeypatch, tmp_path):
    run_job(nightly, date=DAY, batch_size=1)
    lake.fs.rm(lake.path("models", candidate), recursive=True)
    monkeypatch.setenv("MAKE_CONSOLE", str(tmp_path / "console"))
    run_job(job, date=DAY, plan=True)
    text = (tmp_path / "console").read_text()
    assert "5 of 5 active ones: 5 model changed" in text
    assert candidate in text and "over 5 items under" in text


def test_without_a_candidate_there_is_nothing_to_do_and_an_unknown_one_is_named(
    lake, run_job, promoted_model, monkeypatch, tmp_path
):
    monkeypatch.setenv("MAKE_CONSOLE", str(tmp_path / "console"))
    assert run_job(job, date=DAY, plan=True) is None, "a plan leaves no record"
    assert f"{promoted_model} serves and is the model promoted last" in (tmp_path / "console").read_text()
    record = run_job(job, date=DAY)
    assert record["verdict"] == "skipped"
    assert record["notes"] == [f"{promoted_model} serves and is the model promoted last: the nights embed under it"]
    assert "no model elsewhere" in run_job(job, date=DAY, model_version="elsewhere")["notes"][-1]
