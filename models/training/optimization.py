"""How weights move: the schedule of the learning rate, the optimiser's groups, and the average of the weights."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn
from transformers import BertModel

from models.make.modeling_make import MakeModel
from models.training.settings import TrainSettings

# Which parameters are which layer of a BertModel, as timm's backbones tell of themselves.
_BERT_LAYERS = {"stem": r"^embeddings", "blocks": r"^encoder\.layer\.(\d+)"}


def learning_rate_share(progress: float, *, warmup: float) -> float:
    """Share of the peak learning rate at `progress` in 0..1: linear to 1 over `warmup`, then a cosine to 0."""
    if progress < warmup:
        return max(progress, 1e-3) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (progress - warmup) / (1.0 - warmup)))


def make_optimizer(model: MakeModel, settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW over `parameter_groups`."""
    return torch.optim.AdamW(parameter_groups(model, settings), lr=settings.learning_rate, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give each group its share of a rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_share"]


def parameter_groups(model: MakeModel, settings: TrainSettings) -> list[dict[str, Any]]:
    """The optimiser's groups: named parameters that share weight decay and learning rate.

    Weight decay is for the matrices of linear maps and convolutions.  Inside a transformer or a timm backbone the rate
    falls by `layer_decay` with each layer towards the input; all else has the full rate.

    Returns:
        Dicts with `params`, which are (name, parameter) pairs, `weight_decay`, and `rate_share`, in 0..1.
    """
    matrices, rate_shares = _matrices(model), _rate_shares(model, settings.layer_decay)
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        decay = settings.weight_decay if name in matrices else 0.0
        groups.setdefault((decay, rate_shares.get(name, 1.0)), []).append((name, parameter))
    return [{"params": named, "weight_decay": decay, "rate_share": share} for (decay, share), named in groups.items()]


def _matrices(model: nn.Module) -> set[str]:
    """Names of the weights of linear maps and convolutions: neither embeddings nor places are among them."""
    maps = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return {f"{prefix}.weight" for prefix, module in model.named_modules() if isinstance(module, maps)}


def _rate_shares(model: nn.Module, layer_decay: float) -> dict[str, float]:
    """Learning rate of the parameters of layered encoders, by name, as a share of the full one."""
    shares = {}
    for prefix, module in model.named_modules():
        if isinstance(module, BertModel):
            layers = group_parameters(module, _BERT_LAYERS, reverse=True)
        elif hasattr(module, "group_matcher"):
            layers = group_parameters(module, module.group_matcher(), reverse=True)
        else:
            continue
        above = max(layers.values()) + 1  # what reads the encoder
        shares |= {f"{prefix}.{name}": layer_decay ** (above - layer) for name, layer in layers.items()}
    return shares


class WeightAverage:
    """The exponential moving average of a model's weights, which is steadier than the weights of any one step.

    Batch norm's statistics are averaged with the weights that they belong to.  The average is short while training is
    young, so that it does not remember the random start.

    Args:
        decay: share of the average that a step keeps, once as many steps have passed as it averages over.
    """

    def __init__(self, model: MakeModel, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self._decay = decay

    @torch.no_grad()
    def update(self, model: MakeModel, step: int) -> None:
        """Move towards the model, which has taken `step` steps.

        Source: the warm-up of the decay is that of TensorFlow's ExponentialMovingAverage.
        """
        pace = 1.0 - min(self._decay, (1 + step) / (10 + step))
        now: dict[str, Tensor] = model.state_dict()
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                average.lerp_(now[name], pace)
            else:
                average.copy_(now[name])
