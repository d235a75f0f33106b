"""Contrast of titles with photos: a photo finds its own title, and a title its own photo."""

from __future__ import annotations

import torch
from torch import Tensor

from models.make.objectives.contrastive import contrastive_loss


def image_text_loss(titles: Tensor, photos: Tensor, *, shown: Tensor, same: Tensor, temperature: Tensor) -> Tensor:
    """Symmetric contrast of the titles and the photos of products that show both.

    Args:
        titles, photos: (items, dim), unit norm.
        shown: (items,) bool; the others are neither contrasted nor anyone's negative.
        same: (items, items) bool: products of the same title or photo, which are not each other's negatives.
        temperature: scalar that divides the cosines.

    Returns:
        fp32 scalar; 0 where no product shows both.

    Source: CLIP (Radford et al., 2021); the mask is ours.
    """
    count = int(shown.sum())
    return contrastive_loss(
        titles[shown],
        photos[shown],
        item_of=torch.arange(count, device=titles.device),
        weights=titles.new_ones(count),
        temperature=temperature,
        ignored=same[shown][:, shown],
    )
