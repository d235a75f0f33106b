"""Query-product matching with hard negatives of the batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from models.make.matching_head import MatchingPairs
from models.make.objective_settings import ObjectiveSettings
from models.make.objectives.batch import TrainingBatch, query_weights

# The most similar of a batch are often relevant, whatever the log says of them.
_TOO_SIMILAR = 0.01


def pair_drawer(
    batch: TrainingBatch, settings: ObjectiveSettings, *, generator: torch.Generator
) -> Callable[[Tensor], MatchingPairs] | None:
    """What `MakeModel.forward` draws a batch's pairs with; None where matching has no weight."""
    if not settings.matching_weight:
        return None
    return partial(
        draw_pairs,
        item_of=batch.item_of,
        weights=query_weights(batch.kinds, settings),
        ignored=batch.masks.ignored(settings),
        generator=generator,
    )


def draw_pairs(
    similarities: Tensor, *, item_of: Tensor, weights: Tensor, ignored: Tensor, generator: torch.Generator
) -> MatchingPairs:
    """Of each product one query, with the product, with a hard negative product, and a hard negative query with it.

    Args:
        similarities: (queries, items) logits, in proportion to whose softmax the negatives are drawn.
        item_of: (queries,) int64: the product that a query belongs to.
        weights: (queries,) in proportion to which the one query of a product is drawn.
        ignored: (queries, items) bool: pairs that are no negatives.
        generator: on the CPU, seeded by step.

    Returns:
        Three pairs a product; none of a product whose query finds no negative, or which finds none itself.
    """
    similarities = similarities.float()
    barred = ignored | (item_of[:, None] == torch.arange(similarities.shape[1], device=item_of.device))
    queries = one_of_each(item_of, weights, similarities.shape[1], generator)
    own = item_of[queries]
    other_items = hard_negatives(similarities[queries], barred[queries], generator)
    other_queries = hard_negatives(similarities.T[own], barred.T[own], generator)
    found = (other_items >= 0) & (other_queries >= 0)
    queries, own, other_items, other_queries = (rows[found] for rows in (queries, own, other_items, other_queries))
    ones = torch.ones(len(own), device=own.device)
    return MatchingPairs(
        queries=torch.cat([queries, queries, other_queries]),
        items=torch.cat([own, other_items, own]),
        matches=torch.cat([ones, 0 * ones, 0 * ones]),
    )


def one_of_each(item_of: Tensor, weights: Tensor, items: int, generator: torch.Generator) -> Tensor:
    """The rows of one query of each item that has one, drawn in proportion to the weights."""
    # The largest of log(uniform) / weight (Efraimidis and Spirakis, 2006); -inf never counts.
    keys = _uniform(item_of.shape, generator, weights.device).log() / weights
    largest = keys.new_full((items,), -math.inf).scatter_reduce(0, item_of, keys, "amax")
    return ((keys == largest[item_of]) & (weights > 0)).nonzero().squeeze(1)


def hard_negatives(similarities: Tensor, barred: Tensor, generator: torch.Generator) -> Tensor:
    """(rows, candidates) logits -> (rows,) int64: a candidate drawn for each row; -1 where there is none."""
    logits = similarities.masked_fill(barred, -math.inf)
    too_similar = logits.topk(math.ceil(_TOO_SIMILAR * logits.shape[1]), dim=1).indices
    logits = logits.scatter(1, too_similar, -math.inf)
    # The largest of logit + Gumbel noise is a draw from the softmax.
    noise = -(-_uniform(logits.shape, generator, logits.device).log()).log()
    return torch.where(logits.isfinite().any(dim=1), (logits + noise).argmax(dim=1), -1)


def _uniform(shape: torch.Size, generator: torch.Generator, device: torch.device) -> Tensor:
    """Random numbers in (0, 1), the same on every kind of device."""
    return torch.rand(shape, generator=generator).clamp(min=1e-12).to(device)


def matching_loss(logits: Tensor, matches: Tensor) -> Tensor:
    """Mean binary cross-entropy over pairs, fp32 scalar; 0 where there is none.

    Args:
        logits: (pairs,) of any floating type.
        matches: (pairs,) float: 1 where product and query belong together.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), matches, reduction="sum") / max(1, len(matches))
