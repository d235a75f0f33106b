"""A memory of items seen in earlier steps, as further negatives of queries."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from models.make.objective_settings import ObjectiveSettings
from models.make.objectives.contrastive import Negatives
from models.make.objectives.masks import ItemFacts, QueryFacts, joined, pair_masks

_EMBEDDINGS = "embeddings"


class MemoryBank:
    """The newest item vectors, without gradient, and what masks read of their items.

    Args:
        size: items kept; when there are more, the oldest go.

    Source: Wang et al., Cross-Batch Memory for Embedding Learning (2020); the masks are ours.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._embeddings: Tensor | None = None  # (items, dim)
        self._items: ItemFacts | None = None

    def negatives(self, queries: QueryFacts, settings: ObjectiveSettings) -> list[Negatives]:
        """What it holds, masked as the items of a batch are; nothing before the first step."""
        if self._items is None:
            return []
        masks = pair_masks(queries, self._items)
        return [Negatives(self._embeddings, masks.ignored(settings), masks.counts(settings))]

    def add(self, embeddings: Tensor, items: ItemFacts) -> None:
        """Take in a step's items, (items, dim) and their facts, and let go of the oldest."""
        embeddings = embeddings.detach()
        if self._items is not None:
            embeddings, items = torch.cat([self._embeddings, embeddings]), joined([self._items, items])
        self._embeddings, self._items = embeddings[-self._size :], ItemFacts(*(row[-self._size :] for row in items))

    def tensors(self) -> dict[str, Tensor]:
        """All that it holds, by name."""
        return {} if self._items is None else {_EMBEDDINGS: self._embeddings, **self._items._asdict()}

    def restore(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """Put back what `tensors` gave."""
        if tensors:
            held = {name: tensor.to(device) for name, tensor in tensors.items()}
            self._embeddings, self._items = held.pop(_EMBEDDINGS), ItemFacts(**held)
