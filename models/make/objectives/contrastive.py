"""Contrast: what belongs together against the rest of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# A logit below all others: unlike -inf, a row of nothing but these has a finite gradient.
_NO_NEGATIVE = -1e4
_TINY = 1e-6


class Negatives(NamedTuple):
    """Vectors from beyond the batch, which nothing in it belongs to.

    Attributes:
        vectors: (more, dim), unit norm.
        ignored: bool, (queries, more) for items and (more, items) for queries; True where the two are no negatives.
        counts: int16, (queries, more) for items: how often each counts; None: once.
    """

    vectors: Tensor
    ignored: Tensor
    counts: Tensor | None = None


def contrastive_loss(
    queries: Tensor,
    items: Tensor,
    *,
    item_of: Tensor,
    weights: Tensor,
    temperature: Tensor,
    ignored: Tensor,
    counts: Tensor | None = None,
    margin: float = 0.0,
    more_items: Sequence[Negatives] = (),
    more_queries: Sequence[Negatives] = (),
    total_weight: Tensor | None = None,
) -> Tensor:
    """Symmetric in-batch contrastive loss between queries and items, of which each may have several queries.

    Each query stands against the items that are not its own, and its item against the queries that are not the item's.

    Args:
        queries: (queries, dim), unit norm.
        items: (items, dim), unit norm.
        item_of: (queries,) int64: the row of `items` that a query belongs to.
        weights: (queries,) of the mean over queries.
        temperature: scalar that divides the cosines.
        ignored: (queries, items) bool; True at [i, j] leaves item j out of query i's negatives and query i out of item
            j's.  A query's own item is never ignored.
        counts: (queries, items) int16; how often an item that is a negative counts among a query's; None: once.
        margin: subtracted from a query's cosine to its own item, so that it must win by this much.
        more_items: further negatives of the queries.
        more_queries: further negatives of the items.
        total_weight: what the weighted sum is divided by; None: the weights' own sum.

    Returns:
        Weighted mean of the two directions, fp32 scalar; 0 where no query has a weight.
    """
    logits = queries.float() @ items.float().T / temperature.float()
    positives = logits.gather(1, item_of[:, None]).squeeze(1) - margin / temperature.float()
    own = item_of[:, None] == torch.arange(len(items), device=items.device)
    negatives = logits.masked_fill(ignored | own, _NO_NEGATIVE)
    rival_items, rival_queries = _counted(negatives, counts).logsumexp(dim=1), negatives.logsumexp(dim=0)
    for more in more_items:
        logits = (queries.float() @ more.vectors.float().T / temperature.float()).masked_fill(
            more.ignored, _NO_NEGATIVE
        )
        rival_items = torch.logaddexp(rival_items, _counted(logits, more.counts).logsumexp(dim=1))
    for more in more_queries:
        logits = (more.vectors.float() @ items.float().T / temperature.float()).masked_fill(more.ignored, _NO_NEGATIVE)
        rival_queries = torch.logaddexp(rival_queries, logits.logsumexp(dim=0))
    against_items = F.softplus(rival_items - positives)
    against_queries = F.softplus(rival_queries[item_of] - positives)
    weights = weights.float()
    total_weight = weights.sum() if total_weight is None else total_weight
    return ((against_items + against_queries) / 2 * weights).sum() / total_weight.clamp(min=_TINY)


def _counted(logits: Tensor, counts: Tensor | None) -> Tensor:
    return logits if counts is None else logits + counts.log()
