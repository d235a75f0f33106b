"""What one step of training reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.make.masked_language_head import MaskedTexts
from models.make.objective_settings import ObjectiveSettings, QueryKind
from models.make.objectives.masks import ItemFacts, PairMasks, QueryFacts


@dataclass
class TrainingBatch:
    """Products, and for each of them any number of queries.

    Attributes:
        query_ids: (queries, tokens, pieces) int64.
        item_of: (queries,) int64: the product that a query belongs to.
        kinds: (queries,) int64, of `QueryKind`.
        title_ids: (items, tokens, pieces) int64.
        title_shown: (items, tokens) bool: where `title_ids` holds a word, not padding nor a special token.
        pixels: uint8 (items, height, width, 3).
        has_image: (items,) bool.
        masks: of the batch's queries with its items.
        queries, items: what masks against other batches read.
        masked: the texts with some tokens hidden, where masked language modelling has a weight.
        photo_swapped: (items,) bool: shown under another product's photo; None: no item is.
    """

    query_ids: Tensor
    item_of: Tensor
    kinds: Tensor
    title_ids: Tensor
    title_shown: Tensor
    pixels: Tensor
    has_image: Tensor
    masks: PairMasks
    queries: QueryFacts
    items: ItemFacts
    masked: MaskedTexts | None = None
    photo_swapped: Tensor | None = None

    def __len__(self) -> int:
        return len(self.title_ids)

    @property
    def own_photo(self) -> Tensor:
        """(items,) bool: there is a photo, and it is the item's own."""
        return self.has_image if self.photo_swapped is None else self.has_image & ~self.photo_swapped

    @property
    def shows_both(self) -> Tensor:
        """(items,) bool: there is a photo of its own, and a word of the title is left."""
        return self.own_photo & self.title_shown.any(dim=1)

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch on another device."""

        def moved(value):
            if value is None:
                return None
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=True)
            return type(value)(*(moved(tensor) for tensor in value))

        return TrainingBatch(**{name: moved(value) for name, value in vars(self).items()})


def query_weights(kinds: Tensor, settings: ObjectiveSettings) -> Tensor:
    """(queries,) kinds -> (queries,) float32: what each query weighs."""
    by_kind = settings.weights_by_kind
    return torch.tensor([by_kind[kind] for kind in QueryKind], device=kinds.device)[kinds]
