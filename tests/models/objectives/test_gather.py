"""Two processes against one that has both batches."""

import multiprocessing

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from models.make.modeling_make import ItemOutput, MakeOutput
from models.make.objectives import ItemFacts, ObjectiveSettings, QueryFacts, TrainingBatch, make_loss, pair_masks
from models.make.objectives.masks import joined

DIM = 6
QUERIES_AND_ITEMS = [(9, 5), (6, 4)]  # by rank
EVERY_CONTRAST = ObjectiveSettings(
    neighbor_positive_weight=0.5,
    query_photo_weight=0.5,
    query_title_weight=0.25,
    image_text_weight=0.5,
)


class Towers(nn.Module):
    """Stands in for the encoders: a linear map for each vector, and the temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(DIM, DIM) for _ in range(4))
        self.temperature = nn.Parameter(torch.tensor(0.2))

    def forward(self, queries: torch.Tensor, items: torch.Tensor) -> MakeOutput:
        query, *of_item = self.maps
        vectors = [F.normalize(one(items), dim=-1) for one in of_item]
        names = ("embedding", "title_embedding", "image_embedding")
        item = ItemOutput(**dict(zip(names, vectors, strict=True)))
        return MakeOutput(F.normalize(query(queries), dim=-1), item, self.temperature * 1.0)


def rank_batch(rank: int) -> tuple[TrainingBatch, torch.Tensor, torch.Tensor]:
    """Products that share keys and clicks with those of the other rank, and the towers' inputs."""
    generator = torch.Generator().manual_seed(rank)
    queries, items = QUERIES_AND_ITEMS[rank]

    def integers(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    item_of = torch.cat([torch.arange(items), integers(items, queries - items)])
    facts = ItemFacts(integers(20, items), integers(20, items), integers(8, items), integers(3, items))
    clicked, neighbors = integers(3, queries), integers(3, queries)
    asked = QueryFacts(
        title_keys=facts.title_keys[item_of],
        photo_keys=facts.photo_keys[item_of],
        of_log=integers(2, queries) > 0,
        clicked_items=integers(20, int(clicked.sum())),
        clicked_counts=clicked,
        neighbor_items=integers(20, int(neighbors.sum())),
        neighbor_counts=neighbors,
    )
    batch = batch_of(item_of, integers(3, queries), facts.photo_keys > 1, integers(4, items, 1) > 0, asked, facts)
    return batch, torch.randn(queries, DIM, generator=generator), torch.randn(items, DIM, generator=generator)


def batch_of(item_of, kinds, has_image, title_shown, queries: QueryFacts, items: ItemFacts) -> TrainingBatch:
    return TrainingBatch(
        query_ids=torch.ones(len(item_of), 1, 1, dtype=torch.int64),
        item_of=item_of,
        kinds=kinds,
        title_ids=torch.ones(len(has_image), 1, 1, dtype=torch.int64),
        title_shown=title_shown,
        pixels=torch.zeros(len(has_image), 1, 1, 3, dtype=torch.uint8),
        has_image=has_image,
        masks=pair_masks(queries, items),
        queries=queries,
        items=items,
    )


def global_batch() -> tuple[TrainingBatch, torch.Tensor, torch.Tensor]:
    batches, queries, items = zip(*(rank_batch(rank) for rank in range(2)), strict=True)
    item_of = torch.cat([batches[0].item_of, batches[1].item_of + len(batches[0])])
    tensors = (torch.cat([getattr(one, name) for one in batches]) for name in ("kinds", "has_image", "title_shown"))
    facts = (joined([getattr(one, name) for one in batches]) for name in ("queries", "items"))
    return batch_of(item_of, *tensors, *facts), torch.cat(queries), torch.cat(items)


def gradients(towers: nn.Module, batch, queries, items, settings) -> tuple[float, list[torch.Tensor]]:
    loss, _ = make_loss(towers(queries, items), batch, settings=settings, margin=0.1, served_dim=DIM - 2)
    loss.backward()
    return loss.item(), [parameter.grad for parameter in towers.parameters()]


def towers_of_rank(rank: int, meeting: str) -> list:
    """Join the other process; the loss and the gradients with and without gathered negatives."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    found = []
    try:
        for gathered in (True, False):
            torch.manual_seed(0)
            towers = nn.parallel.DistributedDataParallel(Towers())
            settings = EVERY_CONTRAST.model_copy(update={"gather_negatives": gathered})
            found.append(gradients(towers, *rank_batch(rank), settings))
    finally:
        dist.destroy_process_group()
    return found


@pytest.fixture(scope="module")
def both_ranks(tmp_path_factory):
    """Rank 0 is this process, so that only one other must start."""
    meeting = str(tmp_path_factory.mktemp("gather") / "meeting")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        other = pool.apply_async(towers_of_rank, (1, meeting))
        own = towers_of_rank(0, meeting)
        return own, other.get()


def test_the_gradient_of_two_processes_is_that_of_one_with_both_batches(both_ranks):
    torch.manual_seed(0)
    expected_loss, expected = gradients(Towers(), *global_batch(), EVERY_CONTRAST)
    assert global_batch()[0].masks.ignored(EVERY_CONTRAST)[:9, 5:].any(), "pairs across ranks are masked too"
    (own_loss, own), (other_loss, other) = (of_rank[0] for of_rank in both_ranks)
    assert (own_loss + other_loss) / 2 == pytest.approx(expected_loss, rel=1e-5)
    for found in (own, other):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_without_gathering_each_process_contrasts_its_own_batch(both_ranks):
    for rank, (with_others, alone) in enumerate(both_ranks):
        torch.manual_seed(0)
        expected, _ = gradients(Towers(), *rank_batch(rank), EVERY_CONTRAST)
        assert alone[0] == pytest.approx(expected, rel=1e-5)
        assert alone[0] != pytest.approx(with_others[0], rel=1e-3)
