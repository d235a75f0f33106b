"""What the training job is told, and what it leaves in the lake beside the table's row."""

import json
from pathlib import Path

import pytest

from jobs.core.options import OptionsError, parse_options
from jobs.training import train as job
from models.training.settings import TrainResult, TrainSettings


def test_the_model_and_its_curves_are_stored_under_the_version(tmp_path, monkeypatch):
    """Twice, as when the table's row was not written after the first time."""
    digests = {"weights_digest": "w", "preprocessing_digest": "p", "metrics": {}}

    def train(settings: TrainSettings) -> TrainResult:
        for folder in (settings.output, settings.tensorboard_folder):
            Path(folder).mkdir()
        (Path(settings.output) / "manifest.json").write_text("{}")
        (Path(settings.tensorboard_folder) / f"events.{Path(settings.output).parent.name}").write_bytes(b"curves")
        Path(settings.progress_file).write_text('{"event": "step"}\n')
        return TrainResult(model_version="make-20261115-0123abcd", **digests)

    monkeypatch.setattr(job, "train", train)
    settings = TrainSettings(
        training_set="set", output="", date="2026-11-15", progress_file=str(tmp_path / "progress.jsonl")
    )
    for _ in range(2):
        answer = job.train_and_store(settings.model_dump_json(), str(tmp_path / "models"), str(tmp_path / "runs"))
    assert TrainResult.model_validate_json(answer).model_version == "make-20261115-0123abcd"
    assert (tmp_path / "models" / "make-20261115-0123abcd" / "manifest.json").exists()
    assert (tmp_path / "runs" / "make-20261115-0123abcd.jsonl").read_text() == '{"event": "step"}\n'
    (events,) = (tmp_path / "runs" / "make-20261115-0123abcd").iterdir()
    assert events.read_bytes() == b"curves"


def options(**train_settings) -> job.Options:
    return parse_options(job.Options, ["--date=2026-11-15", f"--train-settings={json.dumps(train_settings)}"])


def test_a_loss_is_changed_from_the_command_line_and_all_else_stays_as_it_was():
    settings = options(objectives={"bank_items": 4096}, overrides={"embedding_dim": 64}).settings_over(
        "set", "2026-11-14"
    )
    plain = TrainSettings(training_set="set", output="", date="2026-11-14")
    assert settings.objectives == plain.objectives.model_copy(update={"bank_items": 4096})
    assert settings == plain.model_copy(update={"objectives": settings.objectives, "overrides": {"embedding_dim": 64}})


def test_another_number_of_workers_is_another_recipe_and_one_is_as_it_was():
    settings = TrainSettings(training_set="set", output="model", date="2026-11-14", seed=3)
    alone = job.recipe_of(settings, 1)
    assert alone == settings.model_dump_json(exclude={"training_set", "output", "date"})
    assert json.loads(job.recipe_of(settings, 2)) == {**json.loads(alone), "workers": 2}


@pytest.mark.parametrize(
    ("train_settings", "complaint"),
    [
        ({"epochs": 3, "output": "x"}, "--train-settings: not epochs, output: an option of its own"),
        ({"objectives": {"bank": 1}}, "--train-settings: objectives.bank: Extra inputs are not permitted"),
        ({"clip_norm": 0}, "--train-settings: clip_norm: Input should be greater than 0"),
        ({"overrides": {"width": 1}}, "MakeConfig has no field width"),
    ],
)
def test_settings_that_no_run_has_are_refused_before_spark_starts(train_settings, complaint):
    with pytest.raises(OptionsError, match=complaint):
        options(**train_settings)
