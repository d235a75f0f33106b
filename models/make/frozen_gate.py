"""A trained gate held still: what it is worth to weigh each product by itself, beside having trained with a gate."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from models.make.modeling_make import MakeModel


class GateMean:
    """The mean weights that a gate gave photos, head by head."""

    def __init__(self) -> None:
        self._sum: Tensor | float = 0.0
        self._photos = 0

    def add(self, weights: Tensor) -> None:
        """Take in the (batch, heads, 2) weights of title and photo; products without a photo do not count."""
        shown = weights[weights[:, 0, 1] > 0, :, 1].double()
        self._sum = self._sum + shown.sum(dim=0)
        self._photos += len(shown)

    @property
    def image_weights(self) -> Tensor:
        """(heads,) float64.

        Raises:
            ValueError: no product had a photo.
        """
        if not self._photos:
            raise ValueError("no product with a photo went through the gate, so that it has no mean.")
        return self._sum / self._photos


@contextmanager
def watch_gate(model: MakeModel) -> Iterator[GateMean]:
    """Take the mean of what the model's gate gives within the block.

    Raises:
        ValueError: the model has no gate.
    """
    _require_gate(model)
    mean = GateMean()
    hook = model.modal_adaptation.gate.register_forward_hook(lambda _, __, weights: mean.add(weights))
    try:
        yield mean
    finally:
        hook.remove()


def freeze_gate(model: MakeModel, image_weights: Tensor) -> MakeModel:
    """The same model with `fusion="scalar"`: each head gives the photos of all products that have one the same weight.

    Args:
        model: of `fusion="gate"`; stays as it is.
        image_weights: (heads,) the photo's weights in (0, 1), such as `watch_gate` finds.

    Raises:
        ValueError: the model has no gate, or a weight is no share.
    """
    _require_gate(model)
    if not ((image_weights > 0) & (image_weights < 1)).all():
        raise ValueError(f"image_weights must lie between 0 and 1, got {image_weights.tolist()}.")
    config = copy.deepcopy(model.config)
    config.fusion = "scalar"
    weights = {
        name: value for name, value in model.state_dict().items() if not name.startswith("modal_adaptation.gate")
    }
    weights["modal_adaptation.image_logits"] = torch.logit(image_weights).float()
    frozen = MakeModel(config).to(model.device)
    frozen.load_state_dict(weights)
    return frozen.train(model.training)


def _require_gate(model: MakeModel) -> None:
    if model.config.fusion != "gate":
        raise ValueError(f'expected a model of fusion="gate", got "{model.config.fusion}": it has no gate to freeze.')
