"""Batches that another process makes."""

import multiprocessing
import re
import subprocess
import sys

import pytest
import torch

from models.make.configuration_make import preset_config
from models.make.processing_make import MakeProcessor
from models.training.loader import BatchLoader
from models.training.trainer import TrainSettings
from tests.models.conftest import training_rows, write_split
from tests.models.test_data import training_data
from tests.models.test_trainer import ROOT, SMALL


@pytest.fixture
def data(training_set):
    config = preset_config("tiny", vocab_size=2048, image_height=32, image_width=32)
    return training_data(training_set, MakeProcessor.for_config(config, []))


@pytest.fixture
def loaders():
    """Makes loaders, and closes them."""
    made = []

    def make(data, **where) -> BatchLoader:
        made.append(BatchLoader(data, **{"first": 0, "skip": 0, "epochs": 3, **where}))
        return made[-1]

    yield make
    for loader in made:
        loader.close()


def tensors(batch) -> list[torch.Tensor]:
    return [batch.query_ids, batch.title_ids, batch.pixels, batch.item_of, batch.masks.relevant, *batch.items]


def assert_same(batches, expected) -> None:
    for batch, other in zip(batches, expected, strict=True):
        assert all(torch.equal(tensor, as_made) for tensor, as_made in zip(tensors(batch), tensors(other), strict=True))


def test_epochs_are_those_that_this_process_would_make(data, loaders):
    loader = loaders(data)
    epochs = [(list(loader.epoch()), loader.rows_read) for _ in range(3)]
    for number, (batches, rows_read) in enumerate(epochs):
        assert_same(batches, data.epoch(number, last=True))
        assert rows_read == len(training_rows())


def test_it_goes_on_in_the_midst_of_an_epoch(data, loaders):
    loader = loaders(data, first=1, skip=4)
    resumed = [list(loader.epoch()) for _ in range(2)]
    assert [len(batches) for batches in resumed] == [2, 6]
    assert_same(resumed[0], data.epoch(1, last=True, skip=4))
    assert_same(resumed[1], data.epoch(2, last=True))


def test_the_process_ends_when_it_is_closed_within_an_epoch(data, loaders):
    loader = loaders(data, epochs=1000)
    next(loader.epoch())
    assert len(multiprocessing.active_children()) == 1
    loader.close()
    assert not multiprocessing.active_children()


def test_what_it_cannot_read_stops_training(tmp_path, data, loaders):
    write_split(tmp_path / "train", training_rows())
    broken = training_data(tmp_path, data._processor)
    file = tmp_path / "train" / "part-00000.parquet"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 4] + bytes(len(content) // 2) + content[-(len(content) // 4) :])
    with pytest.raises(OSError, match="Caught OSError in DataLoader worker process 0"):
        list(loaders(broken).epoch())


def test_its_death_stops_training(training_set, tmp_path):
    """PyTorch tells of it in the midst of whatever the process does, so this takes a process of its own."""
    settings = TrainSettings(
        training_set=str(training_set), output=str(tmp_path), date="2026-11-15", overrides=SMALL, epochs=1000
    )
    script = f"""
import multiprocessing, os, signal, threading
from models.training.trainer import TrainSettings, train

def kill_when_it_runs():
    while not (children := multiprocessing.active_children()):
        pass
    os.kill(children[0].pid, signal.SIGKILL)

threading.Thread(target=kill_when_it_runs).start()
train(TrainSettings.model_validate_json({settings.model_dump_json()!r}))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=ROOT, text=True, timeout=120)
    assert ended.returncode == 1
    assert re.search(r"RuntimeError: DataLoader worker .*(is killed by signal|exited unexpectedly)", ended.stderr)
    assert not list(tmp_path.iterdir())
