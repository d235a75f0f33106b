"""A build is judged on what it would do to searches, and one that fails leaves the published build alone."""

import datetime as dt
from dataclasses import asdict

import numpy as np
import pytest
from pyspark.sql import Row

from jobs.index import build, check, publish
from jobs.index.builds import published_build
from jobs.index.gates import Gate
from models.encoder import Encoder
from schemas import INDEX_BUILDS, QUERY_EMBEDDINGS
from tests.builds import unit

DAY, NEXT_DAY = dt.date(2026, 11, 1), dt.date(2026, 11, 2)
WORDS = ["red", "blue", "green", "black", "white", "dress", "shirt", "hat", "shoe", "bag", "belt", "coat"]
# How long a search takes here says what else the machine does.
PATIENT = {"max_latency_ms": 60_000}
# Made-up builds hold no items of the lake, and no model made their vectors.
MADE_UP = {"min_coverage": 0.0, "agreement_items": 0, **PATIENT}


def verdict(lake, build_id: str) -> tuple[str, dict]:
    row = lake.read(INDEX_BUILDS).where(f"build_id = '{build_id}'").first()
    return row["status"], {gate["gate"]: gate for gate in row["gates"]}


def test_a_sound_build_passes_and_a_second_check_writes_nothing(lake, spark, run_job, put_items, promoted_model, embed):
    titles = {f"item-{n:02d}": f"{WORDS[n % 12]} {WORDS[n // 12]}" for n in range(40)}
    vectors = dict(zip(titles, embed(list(titles.values())), strict=True))
    put_items(vectors, promoted_model, title=titles)
    heads = [(f"query {n}", promoted_model, vectors[f"item-{n:02d}"].tolist(), 10, "test") for n in range(20)]
    lake.append(QUERY_EMBEDDINGS, spark.createDataFrame(heads, QUERY_EMBEDDINGS.schema))
    run_job(build, date=DAY)
    assert run_job(check, date=DAY, **PATIENT)["verdict"] == "succeeded"
    (row,) = lake.read(INDEX_BUILDS).collect()
    status, gates = verdict(lake, row["build_id"])
    assert status == "passed"
    assert gates.pop("latency_p95_ms")["figure"] > 0
    assert {name: gate["figure"] for name, gate in gates.items()} == {
        "integrity": 1.0, "pairing": 1.0, "recall_at_10": 1.0, "recall_at_100": 1.0, "worst_shard_recall_at_100": 1.0,
        "coverage": 1.0, "norms": pytest.approx(0, abs=1e-6), "model_agreement": pytest.approx(0, abs=1e-5),
        "size": pytest.approx(1, abs=0.05),
    }  # fmt: skip
    assert "20 head queries" in gates["recall_at_10"]["detail"]
    assert "40 sampled items" in gates["model_agreement"]["detail"]
    version = lake.version(INDEX_BUILDS)
    assert run_job(check, date=DAY, **PATIENT)["verdict"] == "unchanged"
    assert lake.version(INDEX_BUILDS) == version


def test_a_figure_that_varies_from_run_to_run_is_written_anew_with_its_verdict_only():
    recorded = [Row(**asdict(Gate.of(name, 7, 10, "then"))) for name in ("latency_p95_ms", "size")]
    again = [Gate.of("latency_p95_ms", 9, 10, "now"), Gate.of("size", 9, 10, "now")]
    assert [gate.detail for gate in check.as_recorded(again, recorded)] == ["then", "now"]
    for changed in (Gate.of("latency_p95_ms", 11, 10, "now"), Gate.of("latency_p95_ms", 9, 12, "now")):
        assert check.as_recorded([changed], recorded) == [changed]
    assert check.as_recorded(again, None) == again


def test_a_failed_gate_is_named_and_keeps_the_published_build(
    lake, run_job, put_items, put_build, promoted_model, vectors
):
    put_build("build-old", DAY, "published")
    put_items(vectors | {"unembedded": None}, promoted_model)
    run_job(build, date=NEXT_DAY)
    record = run_job(check, date=NEXT_DAY, **(MADE_UP | {"min_coverage": 0.99}))
    assert record["verdict"] == "failed"
    message = record["notes"][-1]
    assert "coverage is 0.9756, bound 0.99 (40 of 41 active items; without: unembedded)" in message
    assert "build-old stays published" in message
    assert run_job(publish, date=NEXT_DAY)["verdict"] == "failed"
    assert published_build(lake)["build_id"] == "build-old"
    assert run_job(check, date=NEXT_DAY, **(MADE_UP | {"min_coverage": 0.9}))["verdict"] == "succeeded"


def test_an_index_that_misses_neighbours_fails_on_recall(lake, run_job, put_build, write_build, promoted_model):
    rows = unit(np.random.default_rng(3).normal(size=(400, 32)))
    put_build("build-a", DAY, "built", rows=rows)
    folder = lake.path("indexes", "build-a")
    lists = {"index_key": "IVF16,Flat", "nprobe": 1}
    write_build(folder, rows, build_id="build-a", model_version=promoted_model, **lists)
    record = run_job(check, date=DAY, **MADE_UP)
    assert record["verdict"] == "failed"
    assert "recall_at_10 is" in record["notes"][-1]
    assert "items' own vectors" in record["notes"][-1]


def test_within_one_model_moved_vectors_and_displaced_neighbours_block(lake, run_job, put_build, vectors):
    rows = np.array(list(vectors.values()))
    put_build("build-old", DAY, "published")
    put_build("build-new", NEXT_DAY, "built", rows=unit(np.random.default_rng(9).normal(size=rows.shape)))
    record = run_job(check, date=NEXT_DAY, **MADE_UP)
    status, gates = verdict(lake, "build-new")
    assert (record["verdict"], status) == ("failed", "failed")
    assert not gates["drift"]["passed"]
    assert not gates["neighbour_churn"]["passed"]
    assert "40 unchanged items, against build-old" in gates["drift"]["detail"]


def test_one_more_item_moves_no_vector_and_displaces_few_neighbours(lake, run_job, put_build, vectors):
    rows = np.array(list(vectors.values()))
    put_build("build-old", DAY, "published")
    put_build("build-new", NEXT_DAY, "built", rows=np.concatenate([rows, unit(-rows[:1])]))
    run_job(check, date=NEXT_DAY, **MADE_UP)
    gates = verdict(lake, "build-new")[1]
    assert gates["drift"]["figure"] == pytest.approx(0, abs=1e-6)
    assert 0 < gates["neighbour_churn"]["figure"] < 0.05


def test_across_models_churn_is_told_and_does_not_block(lake, run_job, put_build, vectors):
    put_build("build-old", DAY, "published")
    other = unit(np.random.default_rng(9).normal(size=(40, 32)))
    put_build("build-new", NEXT_DAY, "built", rows=other, model_version="make-next")
    record = run_job(check, date=NEXT_DAY, model_version="make-next", **MADE_UP)
    gates = verdict(lake, "build-new")[1]
    assert record["verdict"] == "succeeded"
    assert "drift" not in gates
    assert (gates["neighbour_churn"]["passed"], gates["neighbour_churn"]["blocking"]) == (False, False)


def test_a_build_that_serves_judged_queries_worse_than_the_published_one_fails(
    lake, run_job, put_build, promoted_model, tmp_path
):
    encoder = Encoder.from_folder(lake.local_dir("models", promoted_model))
    rows = encoder.embed_queries([f"{first} {second}" for first in WORDS for second in WORDS])
    put_build("build-old", DAY, "published", rows=rows)
    put_build("build-same", NEXT_DAY, "built", rows=np.concatenate([rows, unit(-rows[:1])]))
    queries, judgments = tmp_path / "queries.csv", tmp_path / "judgments.csv"
    asked = [(f"q{row}", f"{WORDS[row // 12]} {WORDS[row % 12]}", row) for row in range(0, 144, 7)]
    queries.write_text("query_id,query\n" + "".join(f"{i},{query}\n" for i, query, _ in asked))
    judgments.write_text("query_id,item_id\n" + "".join(f"{i},{row}\n{i},delisted\n" for i, _, row in asked))
    options = {"judged_queries": str(queries), "judgments": str(judgments), "max_churn": 1.0, "max_drift": 2.0}

    first = run_job(check, date=NEXT_DAY, **options, **MADE_UP)
    assert first["verdict"] == "succeeded"
    assert f"run 1 over these {len(asked)} judged queries" in first["notes"]
    gates = verdict(lake, "build-same")[1]
    assert gates["judged_recall_at_10"]["figure"] == 1.0
    assert gates["judged_recall_at_10"]["bound"] == 0.98

    put_build("build-worse", NEXT_DAY, "built", rows=np.roll(rows, 70, axis=0))
    record = run_job(check, date=NEXT_DAY, **options, **MADE_UP)
    assert record["verdict"] == "failed"
    assert f"run 2 over these {len(asked)} judged queries (before: 1 of index check)" in record["notes"]
    assert "judged_recall_at_10 is" in record["notes"][-1]
    assert "published 1.0000" in record["notes"][-1]


def test_a_night_without_a_new_build_keeps_the_published_ones_gates(lake, run_job, put_build):
    put_build("build-old", DAY, "published")
    version = lake.version(INDEX_BUILDS)
    record = run_job(check, date=NEXT_DAY)
    assert record["verdict"] == "unchanged"
    assert "build-old of 2026-11-01 is published" in record["notes"][-1]
    assert lake.version(INDEX_BUILDS) == version
