"""Keyword Enhancement on a made log: pairs of similar queries, whose clicks have one product in common."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models.make.modeling_make import ItemOutput, MakeOutput
from models.make.objectives import ObjectiveSettings, QueryKind, TrainingBatch, make_loss, pair_masks
from tests.models.objectives.examples import batch, facts_of

PAIRS = 10  # of similar queries
OWN = 4  # products that only one query of a pair clicked
ITEMS_OF_PAIR = 2 * OWN + 1  # the last is the one in common
TEMPERATURE = torch.tensor(0.1)
DIM, STEPS = 32, 150
SEEDS = range(5)


def clicked(query: int) -> set[int]:
    first = query // 2 * ITEMS_OF_PAIR
    own = first + query % 2 * OWN
    return {*range(own, own + OWN), first + 2 * OWN}


def neighbor(query: int) -> int:
    return query ^ 1


def made_batch(*, similar: bool) -> tuple[list[int], TrainingBatch]:
    """All products with the queries that clicked them, and, where wanted, those queries' neighbours."""
    asked = []  # (query, product, kind, what the log clicked, what similar queries clicked)
    for query in range(2 * PAIRS):
        for item in sorted(clicked(query)):
            near = clicked(neighbor(query))
            asked.append((query, item, QueryKind.CLICKED, clicked(query), near))
            if similar:
                asked.append((neighbor(query), item, QueryKind.SIMILAR, clicked(query) | near, set()))
    queries, item_of, kinds, own, near = zip(*asked, strict=True)
    item_of = torch.tensor(item_of)
    query_facts, item_facts = facts_of(item_of, PAIRS * ITEMS_OF_PAIR)
    query_facts = query_facts._replace(**listed("clicked", own), **listed("neighbor", near))
    masks = pair_masks(query_facts, item_facts)
    return list(queries), batch(item_of=item_of, kinds=torch.tensor(kinds), masks=masks)


def listed(name: str, sets: tuple[set[int], ...]) -> dict[str, torch.Tensor]:
    """The fields of `QueryFacts`; `facts_of` gives a product its place, counted from 1, as its key."""
    return {
        f"{name}_items": torch.tensor([item + 1 for items in sets for item in items], dtype=torch.int64),
        f"{name}_counts": torch.tensor([len(items) for items in sets]),
    }


def ranks_of_what_only_the_neighbor_clicked(settings: ObjectiveSettings, seed: int) -> torch.Tensor:
    """Train a vector a query and a product; ranks among the products that the query itself did not click."""
    torch.manual_seed(seed)
    queries, items = nn.Embedding(2 * PAIRS, DIM), nn.Embedding(PAIRS * ITEMS_OF_PAIR, DIM)
    rows, made = made_batch(similar=settings.neighbor_positive_weight > 0)
    optimizer = torch.optim.Adam([queries.weight, items.weight], lr=0.02)
    for _ in range(STEPS):
        of_query, of_item = F.normalize(queries.weight, dim=-1), F.normalize(items.weight, dim=-1)
        output = MakeOutput(query_embedding=of_query[rows], item=ItemOutput(embedding=of_item), temperature=TEMPERATURE)
        loss, _ = make_loss(output, made, settings=settings, margin=0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        scores = F.normalize(queries.weight, dim=-1) @ F.normalize(items.weight, dim=-1).T
    ranks = []
    for query in range(2 * PAIRS):
        scores[query, sorted(clicked(query))] = -torch.inf
        wanted = sorted(clicked(neighbor(query)) - clicked(query))
        ranks += [1 + int((scores[query] > scores[query, item]).sum()) for item in wanted]
    return torch.tensor(ranks, dtype=torch.float32)


def ranks_over_seeds(**switches) -> torch.Tensor:
    settings = ObjectiveSettings(query_photo_weight=0, query_title_weight=0, **switches)
    return torch.stack([ranks_of_what_only_the_neighbor_clicked(settings, seed) for seed in SEEDS])


@pytest.fixture(scope="module")
def with_own_clicks_masked_alone() -> torch.Tensor:
    return ranks_over_seeds(neighbor_mask=False)


@pytest.mark.parametrize(
    "switches",
    [{}, {"neighbor_positive_weight": 0.5}],
    ids=["(a)", "(a) and (b)"],
)
def test_what_only_the_neighbor_clicked_is_found_better_than_with_own_clicks_masked_alone(
    with_own_clicks_masked_alone, switches
):
    enhanced = ranks_over_seeds(**switches)
    assert (enhanced.mean(dim=1) < with_own_clicks_masked_alone.mean(dim=1)).all()  # under every seed
    hit_rates = [(ranks <= 5).float().mean().item() for ranks in (with_own_clicks_masked_alone, enhanced)]
    assert hit_rates[1] - hit_rates[0] >= 0.2
