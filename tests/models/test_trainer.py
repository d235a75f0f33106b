import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.encoder import Encoder
from models.training.trainer import TrainResult, TrainSettings, train
from tests.models.conftest import COLOURS, GARMENTS, catalog

ROOT = Path(__file__).resolve().parents[2]
VECTOR_OBJECTIVES = {"neighbor_positive_weight": 0.5, "image_text_weight": 0.1, "bank_items": 16}
SMALL = {"hidden_size": 64, "embedding_dim": 32, "vocab_size": 2048, "image_height": 32, "image_width": 32}


def settings(training_set: Path, folder: Path, **changes) -> TrainSettings:
    values = {
        "training_set": str(training_set),
        "output": str(folder / "model"),
        "date": "2026-11-15",
        "overrides": SMALL,
        "epochs": 2,
        "batch_size": 16,
        "shuffle_rows": 32,
        "threads": 1,
        "progress_file": str(folder / "progress.jsonl"),
        "progress_every": 1,
    }
    return TrainSettings(**{**values, **changes})


@pytest.fixture(scope="module")
def trained(training_set, tmp_path_factory) -> tuple[TrainSettings, TrainResult]:
    chosen = settings(training_set, tmp_path_factory.mktemp("trained"), epochs=25)
    return chosen, train(chosen)


def test_training_reads_exactly_the_rows_that_the_footers_count(trained):
    _, result = trained
    assert result.metrics["rows_read"] == result.metrics["rows_expected"] == 25 * 96


def test_queries_find_products_whose_colour_only_the_photo_tells(trained):
    chosen, _ = trained
    encoder = Encoder.from_folder(chosen.output)
    items = [item for item in catalog() if not item["item_id"].endswith("-0")]
    vectors = encoder.embed_items(
        encoder.prepare_items([item["title"] for item in items], [item["photo"] for item in items])
    )
    colours = np.array([item["item_id"].split("-")[0] for item in items])
    right = []
    for colour in COLOURS:
        for garment in GARMENTS:
            scores = vectors.embedding @ encoder.embed_queries([f"{colour} {garment}"])[0]
            right.append(colours[scores.argmax()] == colour)
    assert np.mean(right) > 0.9


def test_the_model_folder_names_the_version_and_holds_a_card(trained):
    chosen, result = trained
    folder = Path(chosen.output)
    assert result.model_version.startswith("make-20261115-")
    assert Encoder.from_folder(folder).model_version == result.model_version
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "processor_config.json", "manifest.json", "README.md"
    }  # fmt: skip
    assert "validation_recall_at_10" in (folder / "README.md").read_text()


def test_progress_lines_say_how_far_how_fast_and_what_waits(trained):
    chosen, result = trained
    events = [json.loads(line) for line in Path(chosen.progress_file).read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    assert len(steps) == result.metrics["steps"] == 25 * 6
    expected = {
        "share_done",
        "products_per_second",
        "queries_per_second",
        "data_wait_share",
        "seconds_left",
        "loss",
        "query_item",
        "query_photo",
        "query_title",
    }
    assert expected <= set(steps[0])
    assert [event["share_done"] for event in steps] == sorted(event["share_done"] for event in steps)
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert steps[0]["seconds_left"] > steps[-1]["seconds_left"] == 0
    validations = [event for event in events if event["event"] == "validation"]
    best = max(event["recall_at_10"] for event in validations)
    kept = next(event for event in validations if event["steps"] == result.metrics["validation_best_step"])
    assert best - kept["recall_at_10_error"] <= kept["recall_at_10"] == result.metrics["validation_recall_at_10"]
    assert events[-1]["event"] == "finished"


def test_settings_and_results_cross_processes_as_json(trained):
    chosen, result = trained
    assert TrainSettings.model_validate_json(chosen.model_dump_json()) == chosen
    assert TrainResult.model_validate_json(result.model_dump_json()) == result


def test_the_same_seed_trains_the_same_model(training_set, tmp_path):
    first, second = (train(settings(training_set, tmp_path / name)) for name in ("first", "second"))
    assert first.model_version == second.model_version


def test_training_stops_when_its_time_is_up(training_set, tmp_path):
    result = train(settings(training_set, tmp_path, epochs=100_000, max_minutes=0.02))
    assert 0 < result.metrics["steps"] < 1_000
    assert Encoder.from_folder(tmp_path / "model").model_version == result.model_version


def test_training_stops_after_its_steps_within_an_epoch_and_at_the_end_of_one(training_set, tmp_path):
    for steps in (4, 6, 8):  # an epoch has 6
        result = train(settings(training_set, tmp_path, epochs=100, max_steps=steps))
        assert result.metrics["steps"] == result.metrics["total_steps"] == steps


def test_training_ends_when_its_patience_is_spent(training_set, tmp_path):
    """At no learning rate, and without batch norm, no validation is better than the first."""
    frozen = {"learning_rate": 1e-12, "overrides": {**SMALL, "use_image": False}}
    result = train(settings(training_set, tmp_path, epochs=50, validations=100, patience=2, **frozen))
    assert result.metrics["steps"] == 3 * 6


@pytest.mark.parametrize(
    "changes",
    [
        {
            "overrides": {**SMALL, "text_encoder": "bert", "num_hidden_layers": 1, "cross_attention": True},
            "objectives": {"image_text_weight": 0.1, "masked_language_weight": 0.1, "matching_weight": 0.1},
        },
        {"overrides": {**SMALL, "use_image": False}},
        {"objectives": {"neighbor_positive_weight": 0.5, "neighbor_mask": False, "query_photo_weight": 0}},
        {"precision": "bfloat16", "overrides": {**SMALL, "margin": 0.1}},
        {"micro_batch_size": 5, "checkpoint_activations": True, "flip_photos": 0.5},
    ],
    ids=[
        "bert with cross-attention and every objective",
        "no image",
        "similar queries as positives",
        "bfloat16 with a margin",
        "micro-batches of mirrored photos",
    ],
)
def test_other_models_and_objectives_train_too(training_set, tmp_path, changes):
    result = train(settings(training_set, tmp_path, **{"epochs": 1, **changes}))
    assert Encoder.from_folder(tmp_path / "model").embed_queries(["red dress"]).shape == (1, 32)
    assert result.metrics["steps"] == 6


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["small", "base"])
def test_the_large_presets_train_too(training_set, tmp_path, preset):
    chosen = settings(training_set, tmp_path, preset=preset, overrides={}, batch_size=4, max_steps=2)
    result = train(chosen)
    assert result.metrics["steps"] == 2
    encoder = Encoder.from_folder(chosen.output)
    items = catalog()[:2]
    vectors = encoder.embed_items(encoder.prepare_items(*zip(*((i["title"], i["photo"]) for i in items), strict=True)))
    assert np.isfinite(vectors.embedding).all()
    assert 0 < vectors.image_weight[1] < 1


def train_in_two_processes(chosen: TrainSettings, folder: Path) -> list[TrainResult]:
    """What `train` gave in each of two processes that torchrun started."""
    script = folder / "script.py"
    script.write_text(
        "import os, sys; from models.training.trainer import *\n"
        "result = train(TrainSettings.model_validate_json(sys.argv[1]))\n"
        "open(sys.argv[2] + os.environ['RANK'], 'w').write(result.model_dump_json())"
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*torchrun, script, chosen.model_dump_json(), folder / "result-"],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    return [TrainResult.model_validate_json((folder / f"result-{rank}").read_text()) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"objectives": {**VECTOR_OBJECTIVES, "matching_weight": 0.1}}, {"micro_batch_size": 3, "ema_decay": 0.9}],
    ids=["all objectives of photos", "micro-batches"],
)
def test_two_processes_share_the_rows_and_write_one_model(training_set, tmp_path, changes):
    chosen = settings(training_set, tmp_path, **{"batch_size": 8, "objectives": VECTOR_OBJECTIVES, **changes})
    results = train_in_two_processes(chosen, tmp_path)
    assert results[0] == results[1]
    assert results[0].metrics["rows_read"] == results[0].metrics["rows_expected"] == 2 * 96
    assert results[0].metrics["steps"] == 2 * 96 // (2 * 8)
    assert Encoder.from_folder(chosen.output).model_version == results[0].model_version


@pytest.mark.slow
def test_two_processes_come_to_what_one_comes_to_with_batches_twice_as_large(training_set, tmp_path):
    epochs = 10
    alone, together = tmp_path / "alone", tmp_path / "together"
    together.mkdir()
    of_one = train(settings(training_set, alone, epochs=epochs, batch_size=16, validations=1)).metrics
    of_two = train_in_two_processes(
        settings(training_set, together, epochs=epochs, batch_size=8, validations=1), together
    )[0].metrics
    assert of_two["rows_read"] == of_one["rows_read"] == epochs * 96  # each row once an epoch
    assert of_two["steps"] == of_one["steps"]
    # Rows meet in other batches, so the weights differ, and the figures by what that is worth.
    for name in ("recall_at_10", "ndcg_at_10"):
        assert of_two[f"validation_{name}"] > of_one[f"validation_{name}"] - 0.05


def test_a_set_without_held_out_products_keeps_the_last_weights(training_set, tmp_path):
    copy = tmp_path / "set"
    (copy / "validation_items").mkdir(parents=True)
    (copy / "train").symlink_to(training_set / "train")
    (copy / "items.parquet").symlink_to(training_set / "items.parquet")
    empty = pq.read_schema(training_set / "validation_items" / "part-00000.parquet").empty_table()
    pq.write_table(pa.Table.from_batches([], empty.schema), copy / "validation_items" / "part-00000.parquet")
    result = train(settings(copy, tmp_path, epochs=1))
    assert "validation_recall_at_10" not in result.metrics
    assert result.metrics["validation_best_step"] == result.metrics["steps"]
