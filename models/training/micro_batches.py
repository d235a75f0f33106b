"""A contrast over more products than a forward pass fits into memory: gradients by way of cached vectors.

Source: GradCache (Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from models.make.modeling_make import ItemOutput, MakeOutput
from models.make.objectives import TrainingBatch


class EncoderInputs(NamedTuple):
    """What the encoders read of some products of a batch and of those products' queries, as in `TrainingBatch`."""

    query_ids: Tensor
    title_ids: Tensor
    pixels: Tensor
    has_image: Tensor


def micro_batches(batch: TrainingBatch, size: int) -> list[EncoderInputs]:
    """The batch, `size` products at a time; queries stand in the order of their products, and so go on doing."""
    parts = []
    for start in range(0, len(batch), size):
        items = slice(start, start + size)
        queries = (batch.item_of >= start) & (batch.item_of < start + size)
        parts.append(
            EncoderInputs(batch.query_ids[queries], batch.title_ids[items], batch.pixels[items], batch.has_image[items])
        )
    return parts


def cached_backward(
    parts: Sequence[EncoderInputs],
    *,
    forward: Callable[[EncoderInputs], MakeOutput],
    loss_of: Callable[[MakeOutput], tuple[Tensor, dict[str, Tensor]]],
    seed: int,
    unsynchronised: Callable[[], AbstractContextManager[None]],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Accumulate the gradient of a loss over all parts' vectors together, with one part's graph in memory at a time.

    Each part goes forward twice: without a graph for its vectors, and again, with the same random state, once the loss
    has told what gradient its vectors have.  The gradient is that of one big batch, but for batch norm, which sees the
    part alone, and both times.

    Args:
        parts: of one batch, in order.
        loss_of: the loss of the whole batch, and its figures.
        seed: of what the forward passes drop out.
        unsynchronised: opens a context in which no gradient is averaged over processes: that of all parts but the last.

    Returns:
        What `loss_of` gave.
    """

    def seeded_forward(number: int) -> MakeOutput:
        torch.manual_seed(seed + number)
        return forward(parts[number])

    with torch.no_grad():
        cached = _joined([seeded_forward(number) for number in range(len(parts))])
    loss, figures = loss_of(cached)
    loss.backward()
    query_gradients = cached.query_embedding.grad.split([len(part.query_ids) for part in parts])
    item_gradients = {
        name: vectors.grad.split([len(part.title_ids) for part in parts])
        for name, vectors in cached.item.items()
        if vectors.grad is not None
    }
    last = len(parts) - 1
    for number in range(len(parts)):
        with nullcontext() if number == last else unsynchronised():
            output = seeded_forward(number)
            tensors = [output.query_embedding, *(output.item[name] for name in item_gradients)]
            gradients = [query_gradients[number], *(of_parts[number] for of_parts in item_gradients.values())]
            if number == last:  # one for all parts
                tensors.append(output.temperature)
                gradients.append(cached.temperature.grad)
            torch.autograd.backward(tensors, gradients)
    return loss.detach(), figures


def _joined(outputs: Sequence[MakeOutput]) -> MakeOutput:
    """All parts' vectors as one output, which begins a graph."""

    def joined(parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts)).requires_grad_()

    return MakeOutput(
        query_embedding=joined([output.query_embedding for output in outputs]),
        item=ItemOutput(**{name: joined([output.item[name] for output in outputs]) for name in outputs[0].item}),
        temperature=outputs[0].temperature.clone().requires_grad_(),
    )
