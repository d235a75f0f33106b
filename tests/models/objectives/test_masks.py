import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.make.objective_settings import ObjectiveSettings
from models.make.objectives.masks import (
    ItemFacts,
    QueryFacts,
    joined,
    listed_items,
    pair_masks,
    same_product,
)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(-5, 5), max_size=6), min_size=1, max_size=6), st.randoms())
def test_listed_items_equals_looking_each_one_up(lists, random):
    keys = [random.randint(-5, 5) for _ in range(4)]
    listed = torch.tensor([item for row in lists for item in row], dtype=torch.int64)
    found = listed_items(torch.tensor(keys), listed, torch.tensor([len(row) for row in lists]))
    assert found.tolist() == [[item in row for item in keys] for row in lists]


def test_products_without_a_photo_do_not_share_one():
    keys = torch.tensor([[1, 2, 3, 1], [0, 0, 7, 7]])
    items = ItemFacts(torch.arange(4), *keys, log_queries=torch.ones(4, dtype=torch.int64))
    expected = torch.eye(4, dtype=torch.bool)
    expected[0, 3] = expected[3, 0] = expected[2, 3] = expected[3, 2] = True
    assert torch.equal(same_product(items, items), expected)


def test_a_product_stands_against_the_logs_queries_as_often_as_they_lead_to_it_and_against_others_once():
    nothing_listed = (torch.zeros(0, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    keys = torch.tensor([1, 2, 3])
    items = ItemFacts(keys, keys, keys, log_queries=torch.tensor([1, 0, 3]))
    queries = QueryFacts(keys[:2], keys[:2], torch.tensor([True, False]), *nothing_listed, *nothing_listed)
    masks = pair_masks(queries, items)
    on, off = (ObjectiveSettings(match_popularity=matched) for matched in (True, False))
    assert masks.occurrences.tolist() == [[1, 0, 3], [1, 1, 1]]
    assert torch.equal(masks.ignored(on), masks.relevant | (masks.occurrences == 0))
    assert torch.equal(masks.ignored(off), masks.relevant)
    assert masks.counts(on).tolist() == [[1, 1, 3], [1, 1, 1]]
    assert masks.counts(off).tolist() == [[1, 1, 1]] * 2


def test_batches_joined_are_masked_as_each_by_itself():
    items = [
        ItemFacts(*torch.tensor([[1, 2], [1, 2], [5, 0]]), log_queries=torch.tensor([2, 0])),
        ItemFacts(*torch.tensor([[3], [2], [5]]), log_queries=torch.tensor([0])),
    ]
    queries = [
        QueryFacts(
            *torch.tensor([[1], [5]]),
            torch.tensor([True]),
            *torch.tensor([[2], [1]]),
            torch.zeros(0, dtype=torch.int64),
            torch.zeros(1).long(),
        ),
        QueryFacts(
            *torch.tensor([[2, 9], [5, 0]]),
            torch.tensor([False, True]),
            torch.tensor([1, 3, 2]),
            torch.tensor([2, 1]),
            torch.tensor([3]),
            torch.tensor([0, 1]),
        ),
    ]
    together = pair_masks(joined(queries), joined(items))
    for i, of_query in enumerate(queries):
        for j, of_item in enumerate(items):
            rows, columns = slice(i, i + 1 + i), slice(2 * j, 2 + j)
            for mask, expected in zip(together, pair_masks(of_query, of_item), strict=True):
                assert torch.equal(mask[rows, columns], expected)
    assert together.relevant.any()
    assert together.neighbors.any()
    assert (together.occurrences == 0).any()
