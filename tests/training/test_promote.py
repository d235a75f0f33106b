"""A challenger is promoted when it is better on the same judged queries, and loses no slice by much."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from jobs.core.serving import find_model
from jobs.training import promote as job
from jobs.training.paired import Difference, joint_level
from jobs.training.promote import pair_slices, refusals
from jobs.training.report import verdict_of
from schemas import JUDGED_RESULTS, MODELS

DAY = dt.date(2026, 11, 2)


def measured(**slices: list[float]) -> pd.DataFrame:
    rows = [(name, f"q{n}", value) for name, values in slices.items() for n, value in enumerate(values)]
    return pd.DataFrame(rows, columns=["slice", "query_id", "value"])


BEFORE = measured(all=[0.5] * 40, shoes=[0.5] * 20, hats=[0.5] * 19)


@pytest.mark.parametrize(
    ("after", "because"),
    [
        ({"all": [0.51] * 40}, []),
        ({"all": [0.5] * 40}, ["0.5000 against 0.5000 over 40 queries"]),
        ({"all": [0.4] * 40}, ["(change -0.1000, interval -0.1000 to -0.1000)"]),
        ({"all": [0.6] * 40, "shoes": [0.46] * 20}, []),
        ({"all": [0.6] * 40, "shoes": [0.44] * 20}, ["slice shoes: 0.4400 against 0.5000 over 20 queries"]),
        ({"all": [0.6] * 40, "hats": [0.0] * 19}, []),
        ({"all": [0.6] * 40, "a new slice": [0.0] * 40}, []),
    ],
    ids=["better", "equal", "worse", "slice within bound", "slice lost", "few queries", "slice of one model"],
)
def test_a_challenger_must_be_better_and_may_lose_no_slice_by_more_than_the_bound(after, because):
    found = refusals(pair_slices(BEFORE, measured(**after)), slice_tolerance=0.05)
    assert len(found) == len(because)
    assert all(words in line for words, line in zip(because, found, strict=True))


def test_the_slice_that_lost_most_is_named_first():
    before = measured(all=[0.5] * 40, hats=[0.5] * 20, shoes=[0.5] * 20)
    after = measured(all=[0.6] * 40, hats=[0.4] * 20, shoes=[0.3] * 20)
    found = refusals(pair_slices(before, after), slice_tolerance=0.05)
    assert [line.partition(":")[0] for line in found] == ["slice shoes", "slice hats"]


def test_a_refusal_tells_the_worst_reasons_and_how_many_more_there_are(lake, promoted_model, run_job):
    add_candidate(lake, "make-new")
    for part in ("all", *(f"slice {n}" for n in range(6))):
        add_results(lake, promoted_model, [0.5] * 20, of=part)
        add_results(lake, "make-new", [0.4] * 20, of=part)
    refused = run_job(job, date=DAY)["notes"][-1]
    assert refused.count("0.4000 against 0.5000") == 4
    assert "it has to be higher" in refused
    assert "; and 3 more slices, all of which `training compare` shows. " in refused


def test_values_are_paired_by_query_whatever_their_order():
    before = measured(all=[0.0, 1.0, 0.5])
    after = before.assign(value=before["value"] + 0.1).iloc[::-1]
    difference = pair_slices(before, after)["all"]
    assert difference.lower == pytest.approx(difference.upper) == pytest.approx(0.1)


def test_many_slices_share_one_error_and_few_queries_decide_nothing():
    assert [joint_level(slices) for slices in (1, 10)] == pytest.approx([0.95, 0.995])
    random = np.random.default_rng(0)
    before, after = random.normal(0, 1, 40), random.normal(0.5, 1, 40)
    alone, together = (Difference.between(before, after, level=joint_level(slices)) for slices in (1, 27))
    assert together.lower < alone.lower < alone.upper < together.upper
    surely = [Difference(queries, 0.0, 1.0, 0.9, 1.0).verdict for queries in (19, 20)]
    assert surely == ["open", "better"]


def add_candidate(lake, version: str) -> None:
    row = lake.read(MODELS).where("stage = 'promoted'").first().asDict()
    row |= {"model_version": version, "stage": "candidate", "promoted_at": None}
    row["created_at"] = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
    lake.append(MODELS, lake.read(MODELS).sparkSession.createDataFrame([row], MODELS.schema))


def add_results(lake, version: str, values: list[float], judged_set: str = "a", of: str = "all", **others) -> None:
    """One figure a query for all measures but `others`."""
    now = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
    rows = []
    for n, value in enumerate(values):
        measures = dict.fromkeys(("recall_at_1", "recall_at_10", "recall_at_100", "ndcg_at_10", "mrr"), value) | others
        rows.append((version, judged_set, DAY, of, f"q{n}", "dress", *measures.values(), ["i1"], ["i1"], now))
    lake.append(JUDGED_RESULTS, lake.read(JUDGED_RESULTS).sparkSession.createDataFrame(rows, JUDGED_RESULTS.schema))


def test_a_refusal_is_no_failure_and_a_reason_overrules_it_and_is_recorded(lake, promoted_model, run_job):
    add_candidate(lake, "make-new")
    add_results(lake, promoted_model, [0.5, 1.0])
    add_results(lake, "make-new", [0.5, 0.8])
    refused = run_job(job, date=DAY)
    assert refused["verdict"] == "skipped"
    assert "0.6500 against 0.7500 over 2 queries" in refused["notes"][-1]
    assert refused["figures"]["change_of_recall_at_10 [all]"] == pytest.approx(-0.1)
    model = lake.read(MODELS).where(F.col("model_version") == "make-new")
    assert model.first()["stage"] == "candidate"

    assert run_job(job, date=DAY, reason="the old one cannot read Chinese")["verdict"] == "succeeded"
    assert model.first()["stage"] == "promoted"
    assert model.first()["promotion_reason"] == "the old one cannot read Chinese"
    assert run_job(job, date=DAY)["verdict"] == "unchanged"


def test_measure_and_bound_are_those_that_are_configured(lake, promoted_model, run_job):
    add_candidate(lake, "make-new")
    add_results(lake, promoted_model, [0.5] * 20, mrr=0.6)
    add_results(lake, promoted_model, [0.5] * 20, of="shoes", mrr=0.6)
    add_results(lake, "make-new", [0.4] * 20, mrr=0.7)
    add_results(lake, "make-new", [0.4] * 20, of="shoes", mrr=0.5)
    assert "recall_at_10 of make-new against" in run_job(job, date=DAY)["notes"][-1]
    lost = run_job(job, date=DAY, measure="mrr")["notes"][-1]
    assert "slice shoes: 0.5000 against 0.6000 over 20 queries" in lost
    assert "at most 0.05 less is accepted" in lost
    promoted = run_job(job, date=DAY, measure="mrr", slice_tolerance=0.11)
    assert promoted["verdict"] == "succeeded", promoted["notes"]


def test_the_page_of_each_model_tells_its_own_verdict(lake, promoted_model, run_job):
    """The champion is named in the challenger's refusal, which is none of its own."""
    add_candidate(lake, "make-new")
    add_results(lake, promoted_model, [0.5, 1.0])
    add_results(lake, "make-new", [0.5, 0.8])
    assert verdict_of(lake, find_model(lake, "make-new")).headline == "not judged yet"
    run_job(job, date=DAY)
    refused, champion = (verdict_of(lake, find_model(lake, version)) for version in ("make-new", promoted_model))
    assert (refused.light, refused.headline) == ("amber", "not promoted")
    assert refused.reasons[-1].startswith("refused: recall_at_10 of make-new against the promoted")
    assert (champion.light, champion.headline, champion.reasons) == ("green", "promoted, on 1 November 2026", [])
    run_job(job, date=DAY, reason="it knows more words")
    promoted = verdict_of(lake, find_model(lake, "make-new"))
    assert promoted.light == "green"
    assert "make-new is promoted; reason: it knows more words" in promoted.reasons


def test_models_that_were_not_measured_alike_are_not_compared(lake, promoted_model, run_job):
    add_candidate(lake, "make-new")
    assert "run `training evaluate` first" in run_job(job, date=DAY)["notes"][-1]
    add_results(lake, promoted_model, [0.5, 1.0], judged_set="b")
    add_results(lake, "make-new", [0.9, 1.0])
    record = run_job(job, date=DAY)
    assert record["verdict"] == "failed"
    assert (
        f"the promoted {promoted_model} was not measured on the queries that make-new answered" in record["notes"][-1]
    )


def test_the_first_model_needs_only_to_be_measured(lake, promoted_model, run_job):
    add_results(lake, promoted_model, [0.1])
    lake.delta(MODELS).update(set={"stage": "'candidate'", "promoted_at": "null"})
    assert run_job(job, date=DAY)["verdict"] == "succeeded"
    model = lake.read(MODELS).first()
    assert (model["stage"], model["promotion_reason"]) == ("promoted", None)
