import json

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from models.training.progress import ProgressLog

STEPS = [{"steps": 10, "loss": 2.0}, {"steps": 20, "loss": 1.5}]


def scalars(folder, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_lines_and_tensorboard_tell_the_same(tmp_path):
    log = ProgressLog(str(tmp_path / "progress.jsonl"), str(tmp_path / "events"))
    for figures in STEPS:
        log.write("step", **figures)
    log.write("validation", steps=20, recall_at_10=0.25)
    log.write("finished", model_version="make-20261115-0123abcd")
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert lines[:2] == [{"event": "step", **figures} for figures in STEPS]
    assert [line["event"] for line in lines] == ["step", "step", "validation", "finished"]
    assert scalars(tmp_path / "events", "step/loss") == [(10, 2.0), (20, 1.5)]
    assert scalars(tmp_path / "events", "validation/recall_at_10") == [(20, 0.25)]


def test_a_run_that_goes_on_has_the_curve_from_its_beginning(tmp_path):
    killed = ProgressLog(None, None)
    killed.write("step", **STEPS[0])
    log = ProgressLog(str(tmp_path / "progress.jsonl"), str(tmp_path / "events"))
    log.restore(killed.lines)
    log.write("resumed", steps=10)
    log.write("step", **STEPS[1])
    log.close()
    lines = (tmp_path / "progress.jsonl").read_text().splitlines()
    assert lines == log.lines
    assert lines[0] == killed.lines[0]
    assert scalars(tmp_path / "events", "step/loss") == [(10, 2.0), (20, 1.5)]
