"""What the training job leaves in the lake beside the table's row."""

from pathlib import Path

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
