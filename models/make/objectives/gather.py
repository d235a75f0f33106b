"""Negatives of the other ranks: their vectors, with gradient, and what the masks read of their batches.

Each rank contrasts its own queries with the items of all ranks, and its own items with the queries of all ranks; the
mean over ranks, which data-parallel training takes of gradients, is then the loss over the whole global batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from models.make.modeling_make import ItemOutput, MakeOutput
from models.make.objective_settings import ObjectiveSettings
from models.make.objectives.batch import TrainingBatch, query_weights
from models.make.objectives.masks import Facts, ItemFacts, joined, pair_masks, same_product


@dataclass(frozen=True)
class OtherRanks:
    """What the ranks beside this one have in their batches, a rank after the other.

    Attributes:
        ranks: how many there are, this one included.
        query_embedding: (other queries, dim), with gradient.
        item: vectors of the other items, with gradient.
        weights: (other queries,) of the mean over queries.
        items_ignored: (queries, other items) bool: pairs that are no negatives.
        items_counts: (queries, other items) int64: how often a negative counts.
        queries_ignored: (other queries, items) bool: likewise.
        same_items: (items, other items) bool: of the same title or photo.
        query_own_photo, own_photo, shows_both: of the others' queries, items, items, as the batch has them.
        all_items, all_embeddings: of all ranks, this one included, in their order and without gradient.
    """

    ranks: int
    query_embedding: Tensor
    item: ItemOutput
    weights: Tensor
    items_ignored: Tensor
    items_counts: Tensor
    queries_ignored: Tensor
    same_items: Tensor
    query_own_photo: Tensor
    own_photo: Tensor
    shows_both: Tensor
    all_items: ItemFacts
    all_embeddings: Tensor

    def with_photo(self) -> OtherRanks:
        """The same without the items that have no photo of their own, and without their queries."""
        return replace(
            self,
            weights=self.weights * self.query_own_photo,
            items_ignored=self.items_ignored | ~self.own_photo,
            queries_ignored=self.queries_ignored | ~self.query_own_photo[:, None],
        )


class _Flags(NamedTuple):
    """What is exchanged beside vectors and what masks read."""

    kinds: Tensor
    query_own_photo: Tensor
    own_photo: Tensor
    shows_both: Tensor


def is_distributed() -> bool:
    """Whether there is another rank."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather_others(output: MakeOutput, batch: TrainingBatch, settings: ObjectiveSettings) -> OtherRanks:
    """Exchange batches; all ranks must call, and may have different numbers of queries and items."""
    queries, items = gather_facts(batch.queries), gather_facts(batch.items)
    flags = gather_facts(_Flags(batch.kinds, batch.own_photo[batch.item_of], batch.own_photo, batch.shows_both))
    item = output.item
    vectors = [output.query_embedding, item.embedding, item.title_embedding, item.image_embedding]
    rows = [[len(of_rank.kinds), *[len(of_rank.own_photo)] * 3] for of_rank in flags]
    vectors = gather_vectors(vectors, rows)
    all_items, all_embeddings = joined(items), torch.cat([embedding for _, embedding, _, _ in vectors]).detach()

    for of_ranks in (queries, items, flags, vectors):
        del of_ranks[dist.get_rank()]
    other_items = joined(items)
    to_items = pair_masks(batch.queries, other_items)
    to_queries = pair_masks(joined(queries), batch.items)
    query_embedding, *of_items = (torch.cat(parts) for parts in zip(*vectors, strict=True))
    kinds, query_own_photo, own_photo, shows_both = joined(flags)
    return OtherRanks(
        ranks=dist.get_world_size(),
        query_embedding=query_embedding,
        item=ItemOutput(**dict(zip(("embedding", "title_embedding", "image_embedding"), of_items, strict=True))),
        weights=query_weights(kinds, settings),
        items_ignored=to_items.ignored(settings),
        items_counts=to_items.counts(settings),
        queries_ignored=to_queries.ignored(settings),
        same_items=same_product(batch.items, other_items),
        query_own_photo=query_own_photo,
        own_photo=own_photo,
        shows_both=shows_both,
        all_items=all_items,
        all_embeddings=all_embeddings,
    )


def gather_facts(facts: Facts) -> list[Facts]:
    """Integers or booleans of every rank, in the order of ranks.

    Args:
        facts: a named tuple of tensors; each has as many dimensions on every rank, and any size.
    """
    values = torch.cat([tensor.long().flatten() for tensor in facts])
    shapes = [size for tensor in facts for size in tensor.shape]
    shapes = _gather(torch.tensor([len(values), *shapes], device=values.device)).tolist()
    values = _gather(F.pad(values, (0, max(count for count, *_ in shapes) - len(values))))
    return [_unpacked(of_rank, shape, like=facts) for of_rank, (_, *shape) in zip(values, shapes, strict=True)]


def _unpacked(values: Tensor, sizes: list[int], *, like: Facts) -> Facts:
    """Take apart what `gather_facts` laid end to end."""
    tensors, sizes_left = [], iter(sizes)
    for tensor in like:
        shape = [next(sizes_left) for _ in range(tensor.ndim)]
        part, values = values.tensor_split([math.prod(shape)])
        tensors.append(part.view(shape).to(tensor.dtype))
    return type(like)(*tensors)


def gather_vectors(vectors: Sequence[Tensor], rows: Sequence[Sequence[int]]) -> list[tuple[Tensor, ...]]:
    """Float tensors (rows, dim) of every rank, in the order of ranks, with gradient.

    Args:
        rows: for each rank, how many rows each of the tensors has there.
    """
    own = torch.cat(list(vectors))
    longest = max(sum(of_rank) for of_rank in rows)
    gathered = _GatherRows.apply(F.pad(own, (0, 0, 0, longest - len(own))))
    return [part[: sum(of_rank)].split(list(of_rank)) for part, of_rank in zip(gathered, rows, strict=True)]


class _GatherRows(torch.autograd.Function):
    """(rows, dim), of one shape on all ranks -> (ranks, rows, dim); ranks' gradients for the same rows add up."""

    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        return _gather(rows)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)  # gloo has no reduce_scatter
        return gradient[dist.get_rank()]


def _gather(tensor: Tensor) -> Tensor:
    """A tensor of one shape on all ranks -> (ranks, shape)."""
    gathered = tensor.new_empty(dist.get_world_size(), *tensor.shape)
    dist.all_gather(list(gathered), tensor.contiguous())
    return gathered
