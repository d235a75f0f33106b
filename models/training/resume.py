"""Checkpoints of a run that is not finished: where a killed training goes on, to the same losses.

A checkpoint is a folder `step-<n>` with `tensors.safetensors` and, written last, `state.json`: no pickle.  What
randomness a step needs is derived from (seed, step, rank), and batches from (seed, epoch, rank), so no generator's
state is kept; the read position is the number of batches that the epoch has given.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fsspec.core import url_to_fs
from safetensors.torch import load_file, save_file
from torch import Tensor

STATE_FILE = "state.json"
TENSORS_FILE = "tensors.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A run at the end of a step.

    Args:
        tensors: weights, optimiser state and whatever else, by name.
        state: everything else, as JSON has it.
    """

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


class CheckpointFolder:
    """The newest checkpoint of one run, in a folder that fsspec reaches.

    Args:
        url: the run's own folder; made when the first checkpoint is written.
        settings: what decides the run; a checkpoint of other settings is refused.
    """

    def __init__(self, url: str, settings: Mapping[str, Any]) -> None:
        self._fs, self._root = url_to_fs(url)
        self._settings = json.loads(json.dumps(settings, default=str))

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove the earlier ones."""
        earlier = self._checkpoints()
        target = f"{self._root}/step-{step:09d}"
        self._fs.makedirs(target, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch) / TENSORS_FILE
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}, local)
            self._fs.put_file(str(local), f"{target}/{TENSORS_FILE}")
        state = {"settings": self._settings, **checkpoint.state}
        unfinished = f"{target}/.{STATE_FILE}"
        self._fs.pipe_file(unfinished, json.dumps(state).encode())
        self._fs.mv(unfinished, f"{target}/{STATE_FILE}")
        for folder in earlier:
            if folder != target:
                self._fs.rm(folder, recursive=True)

    def load(self) -> Checkpoint | None:
        """The newest complete checkpoint; None when there is none.

        Raises:
            ValueError: it is of a run with other settings.
        """
        complete = [folder for folder in self._checkpoints() if self._fs.exists(f"{folder}/{STATE_FILE}")]
        if not complete:
            return None
        state = json.loads(self._fs.cat_file(f"{complete[-1]}/{STATE_FILE}"))
        found = state.pop("settings")
        if found != self._settings:
            differing = sorted(
                name for name in {*found, *self._settings} if found.get(name) != self._settings.get(name)
            )
            raise ValueError(
                f"{complete[-1]} is a checkpoint of a run with other settings ({', '.join(differing)}): "
                "remove it to start anew, or train with the settings that it has."
            )
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch) / TENSORS_FILE
            self._fs.get_file(f"{complete[-1]}/{TENSORS_FILE}", str(local))
            return Checkpoint(load_file(local), state)

    def remove(self) -> None:
        """Forget the run: it is finished."""
        if self._fs.exists(self._root):
            self._fs.rm(self._root, recursive=True)

    def _checkpoints(self) -> list[str]:
        if not self._fs.isdir(self._root):
            return []
        return sorted(folder for folder in self._fs.ls(self._root, detail=False) if "/step-" in folder)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors: `<parameter number>.<name>`."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": tensor for number, of_one in state.items() for name, tensor in of_one.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under longer names."""
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def under_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose name begins with the prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
