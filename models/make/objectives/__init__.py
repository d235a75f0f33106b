"""What MAKE is trained to do: one file an objective, each with a weight, and `make_loss`, which adds them up."""

from models.make.objective_settings import ObjectiveSettings, QueryKind
from models.make.objectives.batch import TrainingBatch
from models.make.objectives.masked_language import mask_texts
from models.make.objectives.masks import ItemFacts, PairMasks, QueryFacts, pair_masks
from models.make.objectives.matching import pair_drawer
from models.make.objectives.memory_bank import MemoryBank
from models.make.objectives.total import make_loss

__all__ = [
    "ItemFacts",
    "MemoryBank",
    "ObjectiveSettings",
    "PairMasks",
    "QueryFacts",
    "QueryKind",
    "TrainingBatch",
    "make_loss",
    "mask_texts",
    "pair_drawer",
    "pair_masks",
]
