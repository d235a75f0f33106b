"""A trained gate held still: what it is worth to weigh each product by itself, beside having trained with a gate."""

import copy
import math

import torch

from models.make.modeling_make import MakeModel


def freeze_gate(model: MakeModel, image_weight: float) -> MakeModel:
    """The same model with `fusion="scalar"`, whose every product with a photo gives it the same weight.

    Args:
        model: of `fusion="gate"`; stays as it is.
        image_weight: the photo's weight in (0, 1), such as the gate's mean over the products that have one.

    Raises:
        ValueError: the model has no gate, or the weight is no share.
    """
    if model.config.fusion != "gate":
        raise ValueError(f'expected a model of fusion="gate", got "{model.config.fusion}": it has no gate to freeze.')
    if not 0 < image_weight < 1:
        raise ValueError(f"image_weight must lie between 0 and 1, got {image_weight}.")
    config = copy.deepcopy(model.config)
    config.fusion = "scalar"
    weights = {
        name: value for name, value in model.state_dict().items() if not name.startswith("modal_adaptation.gate")
    }
    weights["modal_adaptation.image_logit"] = torch.tensor(math.log(image_weight / (1 - image_weight)))
    frozen = MakeModel(config).to(model.device)
    frozen.load_state_dict(weights)
    return frozen.train(model.training)
