"""A training that was killed goes on to the losses that it would have had."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.training.resume import Checkpoint, CheckpointFolder
from models.training.trainer import TrainSettings, train
from tests.models.test_trainer import ROOT, SMALL

SCRIPT = (
    "import sys; from models.training.trainer import TrainSettings, train; "
    "train(TrainSettings.model_validate_json(sys.argv[1]))"
)
STEPS_AN_EPOCH = 24


def run_settings(training_set: Path, folder: Path, **changes) -> TrainSettings:
    values = {
        "training_set": str(training_set),
        "output": str(folder / "model"),
        "date": "2026-11-15",
        "overrides": SMALL,
        "objectives": {"bank_items": 6},
        "epochs": 3,
        "batch_size": 4,
        "shuffle_rows": 32,
        "threads": 1,
        "layer_decay": 0.9,
        "ema_decay": 0.9,
        "flip_photos": 0.5,
        "crop_photos": 0.3,
        "progress_file": str(folder / "progress.jsonl"),
        "progress_every": 1,
        "checkpoint_folder": str(folder / "unfinished"),
        "checkpoint_minutes": 0,
    }
    return TrainSettings(**{**values, **changes})


def told(settings: TrainSettings, event: str) -> list[dict]:
    lines = [json.loads(line) for line in Path(settings.progress_file).read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def losses(settings: TrainSettings) -> list[tuple[int, float]]:
    """Of each step, those before the kill too: the checkpoint brings them."""
    return [(step["steps"], step["loss"]) for step in told(settings, "step")]


@pytest.fixture(scope="module")
def unbroken(training_set, tmp_path_factory):
    settings = run_settings(training_set, tmp_path_factory.mktemp("unbroken"), checkpoint_folder=None)
    result = train(settings)
    return losses(settings), result


def kill_at_step(settings: TrainSettings, step: int) -> None:
    """Run in a process of its own, and kill it when it has told that many steps."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, settings.model_dump_json()], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    progress = Path(settings.progress_file)
    deadline = time.monotonic() + 120
    while not progress.exists() or progress.read_text().count('"event": "step"') < step:
        assert process.poll() is None, "training ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_that_was_killed_goes_on_to_the_same_losses_and_the_same_model(training_set, tmp_path, unbroken, epoch):
    expected, whole = unbroken
    settings = run_settings(training_set, tmp_path)
    kill_at_step(settings, STEPS_AN_EPOCH * (epoch - 1) + 8)
    result = train(settings)
    (resumed,) = told(settings, "resumed")
    first = resumed["steps"] + 1
    assert STEPS_AN_EPOCH * (epoch - 1) + 8 <= first <= STEPS_AN_EPOCH * epoch, "it did go on, and in that epoch"
    assert len(expected) - first >= 20
    assert losses(settings) == expected
    assert result.model_version == whole.model_version
    assert result.metrics["rows_read"] == result.metrics["rows_expected"] == whole.metrics["rows_read"]
    assert not Path(settings.checkpoint_folder).exists(), "a finished run leaves no checkpoint"


def test_a_run_goes_on_with_its_own_vocabulary_and_drops_out_what_it_would_have(training_set, tmp_path):
    """Learning a vocabulary breaks ties by chance, so only runs from one checkpoint can be compared."""
    bert = {**SMALL, "text_encoder": "bert", "num_hidden_layers": 1, "hidden_dropout": 0.1}
    killed = run_settings(training_set, tmp_path, overrides=bert)
    kill_at_step(killed, STEPS_AN_EPOCH + 8)
    shutil.copytree(killed.checkpoint_folder, tmp_path / "copy")
    again = killed.model_copy(update={"checkpoint_folder": str(tmp_path / "copy")})
    versions, curves = [], []
    for settings in (killed, again):
        versions.append(train(settings).model_version)
        curves.append(losses(settings))
    assert told(killed, "resumed")[0]["steps"] >= STEPS_AN_EPOCH
    assert curves[0] == curves[1]
    assert versions[0] == versions[1]


def test_a_checkpoint_that_was_cut_off_is_passed_over(tmp_path):
    folder = CheckpointFolder(str(tmp_path / "run"), {"seed": 1})
    folder.save(10, Checkpoint({}, {"step": 10}))
    (tmp_path / "run" / "step-000000020").mkdir()
    (tmp_path / "run" / "step-000000020" / "tensors.safetensors").write_bytes(b"cut off")
    assert folder.load().state == {"step": 10}


def test_another_runs_checkpoint_is_refused_with_what_differs(tmp_path):
    CheckpointFolder(str(tmp_path / "run"), {"seed": 1, "epochs": 3}).save(10, Checkpoint({}, {}))
    with pytest.raises(ValueError, match=r"other settings \(seed\)"):
        CheckpointFolder(str(tmp_path / "run"), {"seed": 2, "epochs": 3}).load()
    assert CheckpointFolder(str(tmp_path / "other"), {"seed": 2}).load() is None
