"""Batches and outputs that tests of objectives write down by hand."""

import torch
import torch.nn.functional as F

from models.make.modeling_make import ItemOutput, MakeOutput
from models.make.objectives import ItemFacts, PairMasks, QueryFacts, QueryKind, TrainingBatch

TAU = torch.tensor(0.1)
ITEM_OF = torch.tensor([0, 0, 1, 2, 2, 2, 3])  # seven queries of four items
KINDS = torch.tensor([QueryKind.CLICKED, QueryKind.SIMILAR, *[QueryKind.CLICKED] * 4, QueryKind.OF_TITLE])


def unit(rows: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def nothing(queries: int = 7, items: int = 4) -> torch.Tensor:
    return torch.zeros(queries, items, dtype=torch.bool)


def output(**changes) -> MakeOutput:
    vectors = {"embedding": unit(4, seed=1), "title_embedding": unit(4, seed=2), "image_embedding": unit(4, seed=3)}
    return MakeOutput(query_embedding=unit(7), item=ItemOutput(**{**vectors, **changes}), temperature=TAU)


def facts_of(item_of: torch.Tensor, items: int) -> tuple[QueryFacts, ItemFacts]:
    """Products that all differ and have one query of the log each, and queries that clicked nothing."""
    keys = torch.arange(1, items + 1)
    nothing_listed = (torch.zeros(0, dtype=torch.int64), torch.zeros(len(item_of), dtype=torch.int64))
    of_log = torch.ones(len(item_of), dtype=torch.bool)
    queries = QueryFacts(keys[item_of], keys[item_of], of_log, *nothing_listed, *nothing_listed)
    return queries, ItemFacts(keys, keys, keys, log_queries=torch.ones(items, dtype=torch.int64))


def batch(*, relevant=None, neighbors=None, occurrences=None, **changes) -> TrainingBatch:
    relevant, neighbors = (nothing() if mask is None else mask for mask in (relevant, neighbors))
    masks = PairMasks(
        relevant, neighbors, torch.ones_like(relevant, dtype=torch.int16) if occurrences is None else occurrences
    )
    queries, items = facts_of(ITEM_OF, 4)
    values = {
        "query_ids": torch.ones(7, 1, 1, dtype=torch.int64),
        "item_of": ITEM_OF,
        "kinds": KINDS,
        "title_ids": torch.ones(4, 2, 1, dtype=torch.int64),
        "title_shown": torch.ones(4, 2, dtype=torch.bool),
        "pixels": torch.zeros(4, 1, 1, 3, dtype=torch.uint8),
        "has_image": torch.ones(4, dtype=torch.bool),
        "masks": masks,
        "queries": queries,
        "items": items,
    }
    return TrainingBatch(**{**values, **changes})
