"""How the encoders compute in training: what they keep for the backward pass, and whether they are compiled."""

from __future__ import annotations

from transformers import BertModel

from models.make.modeling_make import ImageEncoder, MakeModel


def checkpoint_activations(model: MakeModel) -> None:
    """Let transformers and timm backbones keep only what enters a layer, and compute the rest again backwards.

    It costs a second forward pass.
    """
    for module in model.modules():
        if isinstance(module, BertModel):
            module.activation_checkpointing_enable()
        elif hasattr(module, "set_grad_checkpointing"):
            module.set_grad_checkpointing()


def compile_encoders(model: MakeModel) -> None:
    """Compile transformers and the photo encoder, in place, so that weights keep their names.

    The bag of subwords is left as it is: its shapes depend on the words, and it has little to fuse.
    """
    for module in model.modules():
        if isinstance(module, BertModel | ImageEncoder):
            module.compile()
