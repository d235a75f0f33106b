"""How a process computes in training: its memory, what encoders keep for the backward pass, what is compiled."""

from __future__ import annotations

import ctypes

from transformers import BertModel

from models.make.modeling_make import ImageEncoder, MakeModel

# Of glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MOST_BYTES = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process keep what it frees, for tensors of the next step; without glibc, do nothing.

    glibc gives large blocks back to the kernel at once, and every step would fault its gradients in anew, page by page.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MOST_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _MOST_BYTES)


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
