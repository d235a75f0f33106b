"""One process of a training run, alone or one of several that torchrun or TorchDistributor started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class Process:
    """This process among `world_size`; `rank` 0 validates and writes."""

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process does what is done once."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose gradients are averaged over all processes; itself when there is only one."""
        if self.world_size == 1:
            return model
        on_gpu = self.device.type == "cuda"
        return nn.parallel.DistributedDataParallel(model, device_ids=[self.device.index] if on_gpu else None)

    def unsynchronised(self, model: nn.Module) -> AbstractContextManager[None]:
        """Within it a model that `wrap` gave keeps its gradients to itself, to be averaged with those to come."""
        return nullcontext() if self.world_size == 1 else model.no_sync()

    def from_first(self, value: Any) -> Any:
        """Rank 0's value, on every rank; all ranks must call."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def total(self, value: float) -> float:
        """The sum of all ranks' values, on every rank; all ranks must call."""
        if self.world_size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.item()


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 pays: a GPU that has it, or a CPU with matrix tiles; elsewhere it is emulated, and slow."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu.get_capabilities().get("amx_bf16", False)


@contextmanager
def joined_process() -> Iterator[Process]:
    """Read RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE, join the others, and leave them at the end.

    Without these variables the process is alone.  Several use NCCL on GPUs, gloo on CPUs.
    """
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    process = Process(rank, local_rank, world_size, local_world_size, device)
    if world_size == 1:
        yield process
        return
    dist.init_process_group("nccl" if on_gpu else "gloo", rank=rank, world_size=world_size)
    try:
        yield process
    finally:
        dist.destroy_process_group()
