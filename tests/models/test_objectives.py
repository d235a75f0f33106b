import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from models.make.modeling_make import ItemOutput, MakeOutput
from models.make.objectives import (
    ObjectiveSettings,
    contrastive_loss,
    covering_titles,
    listed_items,
    make_loss,
    same_product,
)

TAU = torch.tensor(0.1)


def unit(rows: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def slow_loss(queries, items, ignored, margin) -> float:
    """The definition, a term at a time."""
    n, total = len(queries), 0.0
    for i in range(n):
        positive = (float(queries[i] @ items[i]) - margin) / 0.1
        rivals = [float(queries[i] @ items[j]) / 0.1 for j in range(n) if j != i and not ignored[i][j]]
        total += math.log(sum(map(math.exp, [positive, *rivals]))) - positive
        rivals = [float(queries[j] @ items[i]) / 0.1 for j in range(n) if j != i and not ignored[j][i]]
        total += math.log(sum(map(math.exp, [positive, *rivals]))) - positive
    return total / (2 * n)


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_the_loss_equals_its_definition_with_false_negatives_left_out(margin):
    queries, items = unit(6), unit(6, seed=1)
    ignored = torch.rand(6, 6, generator=torch.Generator().manual_seed(2)) < 0.4
    loss = contrastive_loss(queries, items, temperature=TAU, ignored=ignored, margin=margin)
    assert loss.item() == pytest.approx(slow_loss(queries, items, ignored, margin), rel=1e-5)


def test_an_ignored_pair_gets_no_gradient():
    queries, items = unit(4).requires_grad_(), unit(4, seed=1).requires_grad_()
    ignored = ~torch.eye(4, dtype=torch.bool)
    contrastive_loss(queries, items, temperature=TAU, ignored=ignored).backward()
    assert queries.grad.abs().max() == 0
    assert items.grad.abs().max() == 0


def test_half_precision_vectors_are_contrasted_in_float32():
    loss = contrastive_loss(
        unit(4).bfloat16(), unit(4, seed=1).bfloat16(), temperature=TAU, ignored=torch.zeros(4, 4, dtype=torch.bool)
    )
    assert loss.dtype == torch.float32


def test_an_empty_batch_costs_nothing_and_has_a_gradient():
    queries = unit(4).requires_grad_()
    none = torch.zeros(4, dtype=torch.bool)
    loss = contrastive_loss(queries[none], queries[none], temperature=TAU, ignored=torch.zeros(0, 0, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(queries.grad).all()


def output(n: int = 4) -> MakeOutput:
    item = ItemOutput(embedding=unit(n, seed=1), title_embedding=unit(n, seed=2), image_embedding=unit(n, seed=3))
    return MakeOutput(query_embedding=unit(n), similar_query_embedding=unit(n, seed=4), item=item, temperature=TAU)


def loss_parts(settings: ObjectiveSettings, *, has_image=None, neighbors=None, covered=None, n: int = 4):
    nothing = torch.zeros(n, n, dtype=torch.bool)
    return make_loss(
        output(n),
        has_image=torch.ones(n, dtype=torch.bool) if has_image is None else has_image,
        has_similar=torch.tensor([True, True, False, True]),
        relevant=nothing,
        neighbors=nothing if neighbors is None else neighbors,
        covered=nothing if covered is None else covered,
        settings=settings,
        margin=0.0,
    )


def test_a_weight_of_zero_leaves_its_part_out():
    plain = ObjectiveSettings(query_photo_weight=0, query_title_weight=0)
    total, parts = loss_parts(plain)
    assert list(parts) == ["query_item"]
    assert total == parts["query_item"]
    _, parts = loss_parts(ObjectiveSettings(neighbor_positive_weight=0.5))
    assert list(parts) == ["query_item", "similar_query_item", "query_photo", "query_title"]


def test_the_two_switches_of_keyword_enhancement_act_apart():
    neighbors = torch.zeros(4, 4, dtype=torch.bool)
    neighbors[0, 1] = True
    on, off = (
        loss_parts(ObjectiveSettings(neighbor_mask=mask, neighbor_positive_weight=1.0), neighbors=neighbors)[1]
        for mask in (True, False)
    )
    without = loss_parts(ObjectiveSettings(neighbor_mask=True, neighbor_positive_weight=1.0))[1]
    assert on["query_item"] < off["query_item"] == without["query_item"]
    assert on["similar_query_item"] == off["similar_query_item"] < without["similar_query_item"]


def test_rows_without_a_photo_take_no_part_in_the_contrast_with_photos():
    settings = ObjectiveSettings(query_photo_weight=1.0, query_title_weight=0)
    has_image = torch.tensor([True, False, True, True])
    _, parts = loss_parts(settings, has_image=has_image)
    made = output()
    expected = slow_loss(
        made.query_embedding[has_image], made.item.image_embedding[has_image], [[False] * 3] * 3, margin=0.0
    )
    assert parts["query_photo"].item() == pytest.approx(expected, rel=1e-5)
    _, parts = loss_parts(settings, has_image=torch.zeros(4, dtype=torch.bool))
    assert parts["query_photo"].item() == 0


@given(st.lists(st.lists(st.integers(-5, 5), max_size=6), min_size=1, max_size=6), st.randoms())
def test_listed_items_equals_looking_each_one_up(lists, random):
    keys = [random.randint(-5, 5) for _ in lists]
    found = listed_items(np.array(keys), [np.array(row, dtype=np.int64) for row in lists])
    assert found.tolist() == [[item in row for item in keys] for row in lists]


def test_products_without_a_photo_do_not_share_one():
    same = same_product(np.array([1, 2, 3, 1]), np.array([0, 0, 7, 7]))
    expected = np.eye(4, dtype=bool)
    expected[0, 3] = expected[3, 0] = expected[2, 3] = expected[3, 2] = True
    np.testing.assert_array_equal(same, expected)


words = st.lists(st.integers(0, 7), min_size=1, max_size=5)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=6))
def test_a_title_covers_a_query_when_it_holds_all_of_its_words(rows):
    """0 pads and 1 begins a text; neither is a word."""
    queries, titles = ([row[side] for row in rows] for side in (0, 1))
    padded = [np.array([row + [0] * (5 - len(row)) for row in side]) for side in (queries, titles)]
    found = covering_titles(*padded)
    for i, query in enumerate(queries):
        wanted = set(query) - {0, 1}
        assert found[i].tolist() == [bool(wanted) and wanted <= set(title) for title in titles]


def test_a_product_whose_title_says_what_is_asked_for_is_no_negative():
    covered = torch.eye(4, dtype=torch.bool).roll(1, 0)
    masked, open_ = (
        loss_parts(ObjectiveSettings(title_mask=mask), covered=covered)[1]["query_item"] for mask in (True, False)
    )
    assert masked < open_
