"""Query-product matching: one pair at a time, the query's tokens read the product's."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.make.configuration_make import MakeConfig
from models.make.modal_adaptation import Attention, AttentionPool, FeedForward


class MatchingPairs(NamedTuple):
    """Queries and products of a batch that are put beside each other.

    Attributes:
        queries, items: (pairs,) int64: the rows of the two.
        matches: (pairs,) float32: 1 where the product is the query's own, else 0.
    """

    queries: Tensor
    items: Tensor
    matches: Tensor


class MatchingHead(nn.Module):
    """Whether a product is what a query asks for, as a logit; finer than a cosine, and too slow to search with.

    Source: the image-text matching of ALBEF (Li et al., 2021) for the task; the head is ours.
    """

    def __init__(self, config: MakeConfig) -> None:
        super().__init__()
        dim, heads = config.hidden_size, config.num_attention_heads
        self.query_from_item = Attention(dim, heads)
        self.feed_forward = FeedForward(dim, config.intermediate_size)
        self.pool = AttentionPool(dim, heads)
        self.logit = nn.Linear(dim, 1)

    def forward(
        self,
        query: Tensor,
        query_mask: Tensor,
        title: Tensor,
        title_mask: Tensor,
        image: Tensor,
        has_image: Tensor,
    ) -> Tensor:
        """Judge each query with the product of the same row.

        Args:
            query: (pairs, tokens, dim) query encoder states.
            query_mask: (pairs, tokens) bool, True at tokens; at least one a row.
            title, title_mask, image, has_image: of the products, as in `ModalAdaptation.forward`.

        Returns:
            (pairs,) logits.
        """
        item = torch.cat([title, image], dim=1)
        item_mask = torch.cat([title_mask, has_image[:, None].expand(image.shape[:2])], dim=1)
        states = query + self.query_from_item(query, item, item_mask)
        pooled = self.pool(states + self.feed_forward(states), query_mask)
        return self.logit(F.layer_norm(pooled, pooled.shape[-1:])).squeeze(-1)
