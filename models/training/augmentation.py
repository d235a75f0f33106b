"""Photos as they might have been taken as well: mirrored, and from nearer."""

from __future__ import annotations

import torch
from torch import Tensor


def vary_photos(pixels: Tensor, *, flip: float, crop: float, generator: torch.Generator) -> Tensor:
    """Mirror photos, and stretch a part of each to the whole, by the nearest pixel.

    Args:
        pixels: uint8 (photos, height, width, 3).
        flip: share of photos mirrored left to right.
        crop: largest share of a photo's height, and of its width, that is cut off; how much, and where, is uniform.
        generator: seeded by step, so that a resumed run sees the same photos.
    """
    count, height, width, _ = pixels.shape
    if crop:
        rows = _cropped(count, height, crop, generator)
        columns = _cropped(count, width, crop, generator)
    else:
        rows, columns = (torch.arange(size).expand(count, size) for size in (height, width))
    mirrored = torch.rand(count, 1, generator=generator) < flip
    columns = torch.where(mirrored, columns.flip(1), columns)
    photos = torch.arange(count)[:, None, None]
    places = (photos * height + rows[:, :, None]) * width + columns[:, None, :]
    return pixels.flatten(0, 2).index_select(0, places.flatten()).view_as(pixels)


def _cropped(count: int, size: int, crop: float, generator: torch.Generator) -> Tensor:
    """(count, size) int64: where along a side of `size` pixels each pixel of a random part, stretched, comes from."""
    share = 1.0 - crop * torch.rand(count, 1, generator=generator)
    start = (1.0 - share) * torch.rand(count, 1, generator=generator)
    centres = (torch.arange(size) + 0.5) / size
    return ((start + share * centres) * size).long().clamp(max=size - 1)
