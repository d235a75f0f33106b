"""Contrast of titles with photos: a photo finds its own title, and a title its own photo."""

from __future__ import annotations

import torch
from torch import Tensor

from models.make.objectives.contrastive import Negatives, contrastive_loss
from models.make.objectives.gather import OtherRanks


def image_text_loss(
    titles: Tensor,
    photos: Tensor,
    *,
    shows_both: Tensor,
    same: Tensor,
    temperature: Tensor,
    others: OtherRanks | None = None,
) -> Tensor:
    """Symmetric contrast of the titles and the photos of products that show both.

    Args:
        titles, photos: (items, dim), unit norm.
        shows_both: (items,) bool; the others are neither contrasted nor anyone's negative.
        same: (items, items) bool: products of the same title or photo, which are not each other's negatives.
        temperature: scalar that divides the cosines.
        others: further negatives.

    Returns:
        fp32 scalar; 0 where no product shows both.

    Source: CLIP (Radford et al., 2021); the mask is ours.
    """
    weights = shows_both.float()
    more = {}
    if others is not None:
        more = {
            "more_items": [Negatives(others.item.image_embedding, others.same_items | ~others.shows_both)],
            "more_queries": [Negatives(others.item.title_embedding, others.same_items.T | ~others.shows_both[:, None])],
            "total_weight": (weights.sum() + others.shows_both.sum()) / others.ranks,
        }
    return contrastive_loss(
        titles,
        photos,
        item_of=torch.arange(len(titles), device=titles.device),
        weights=weights,
        temperature=temperature,
        ignored=same | ~shows_both | ~shows_both[:, None],
        **more,
    )
