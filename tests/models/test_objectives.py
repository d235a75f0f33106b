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
    QueryKind,
    contrastive_loss,
    covering_titles,
    listed_items,
    make_loss,
    same_product,
)

TAU = torch.tensor(0.1)
ITEM_OF = torch.tensor([0, 0, 1, 2, 2, 2, 3])  # seven queries of four items
ONES = torch.ones(7)


def unit(rows: int, dim: int = 8, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


def nothing(queries: int = 7, items: int = 4) -> torch.Tensor:
    return torch.zeros(queries, items, dtype=torch.bool)


def loss_of(queries, items, *, ignored=None, item_of=ITEM_OF, weights=ONES, margin=0.0) -> torch.Tensor:
    ignored = nothing(len(queries), len(items)) if ignored is None else ignored
    return contrastive_loss(
        queries, items, item_of=item_of, weights=weights, temperature=TAU, ignored=ignored, margin=margin
    )


def slow_loss(queries, items, *, ignored, item_of=ITEM_OF, weights=ONES, margin=0.0) -> float:
    """The definition, a term at a time."""
    total = 0.0
    for i, own in enumerate(item_of.tolist()):
        positive = (float(queries[i] @ items[own]) - margin) / 0.1
        rivals = [float(queries[i] @ items[j]) / 0.1 for j in range(len(items)) if j != own and not ignored[i][j]]
        loss = math.log(sum(map(math.exp, [positive, *rivals]))) - positive
        others = [j for j in range(len(queries)) if item_of[j] != own and not ignored[j][own]]
        rivals = [float(queries[j] @ items[own]) / 0.1 for j in others]
        loss += math.log(sum(map(math.exp, [positive, *rivals]))) - positive
        total += float(weights[i]) * loss / 2
    return total / float(weights.sum())


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_the_loss_equals_its_definition_with_false_negatives_left_out(margin):
    queries, items = unit(7), unit(4, seed=1)
    generator = torch.Generator().manual_seed(2)
    ignored = torch.rand(7, 4, generator=generator) < 0.4
    weights = torch.rand(7, generator=generator)
    loss = loss_of(queries, items, ignored=ignored, weights=weights, margin=margin)
    expected = slow_loss(queries, items, ignored=ignored, weights=weights, margin=margin)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_an_ignored_pair_gets_no_gradient():
    queries, items = unit(7).requires_grad_(), unit(4, seed=1).requires_grad_()
    loss_of(queries, items, ignored=~nothing()).backward()
    assert queries.grad.abs().max() == 0
    assert items.grad.abs().max() == 0


def test_half_precision_vectors_are_contrasted_in_float32():
    assert loss_of(unit(7).bfloat16(), unit(4, seed=1).bfloat16()).dtype == torch.float32


def test_no_query_and_queries_without_weight_cost_nothing_and_have_a_gradient():
    queries, items = unit(7).requires_grad_(), unit(4, seed=1)
    none = torch.zeros(7, dtype=torch.bool)
    losses = [
        loss_of(queries[none], items, item_of=ITEM_OF[none], weights=ONES[none]),
        loss_of(queries, items, weights=torch.zeros(7)),
    ]
    sum(losses).backward()
    assert [loss.item() for loss in losses] == [0, 0]
    assert torch.isfinite(queries.grad).all()


def output() -> MakeOutput:
    item = ItemOutput(embedding=unit(4, seed=1), title_embedding=unit(4, seed=2), image_embedding=unit(4, seed=3))
    return MakeOutput(query_embedding=unit(7), item=item, temperature=TAU)


def loss_parts(settings: ObjectiveSettings, **changes):
    kinds = torch.tensor([QueryKind.CLICKED, QueryKind.SIMILAR, *[QueryKind.CLICKED] * 4, QueryKind.OF_TITLE])
    batch = {
        "item_of": ITEM_OF,
        "kinds": kinds,
        "has_image": torch.ones(4, dtype=torch.bool),
        "relevant": nothing(),
        "neighbors": nothing(),
        "covered": nothing(),
    }
    return make_loss(output(), **{**batch, **changes}, settings=settings, margin=0.0)


def test_a_weight_of_zero_leaves_its_part_out():
    plain = ObjectiveSettings(query_photo_weight=0, query_title_weight=0)
    total, parts = loss_parts(plain)
    assert list(parts) == ["query_item"]
    assert total == parts["query_item"]
    assert list(loss_parts(ObjectiveSettings())[1]) == ["query_item", "query_photo", "query_title"]


def test_the_two_switches_of_keyword_enhancement_act_apart():
    neighbors = nothing()
    neighbors[0, 1] = True
    on, off = (
        loss_parts(ObjectiveSettings(neighbor_mask=mask), neighbors=neighbors)[1]["query_item"]
        for mask in (True, False)
    )
    assert on < off == loss_parts(ObjectiveSettings(neighbor_mask=True))[1]["query_item"]
    made = output()
    for weight in (0.0, 0.5):
        settings = ObjectiveSettings(neighbor_positive_weight=weight, title_query_weight=0.25)
        weights = torch.tensor([1, weight, 1, 1, 1, 1, 0.25])
        expected = slow_loss(made.query_embedding, made.item.embedding, ignored=nothing(), weights=weights)
        assert loss_parts(settings)[1]["query_item"].item() == pytest.approx(expected, rel=1e-5)


def test_products_without_a_photo_take_no_part_in_the_contrast_with_photos():
    settings = ObjectiveSettings(query_photo_weight=1.0, query_title_weight=0, neighbor_positive_weight=1.0)
    has_image = torch.tensor([True, False, True, True])
    _, parts = loss_parts(settings, has_image=has_image)
    made = output()
    kept = [0, 1, 3, 4, 5, 6]
    expected = slow_loss(
        made.query_embedding[kept],
        made.item.image_embedding[has_image],
        ignored=nothing(),
        item_of=torch.tensor([0, 0, 1, 1, 1, 2]),
        weights=torch.ones(6),
    )
    assert parts["query_photo"].item() == pytest.approx(expected, rel=1e-5)
    _, parts = loss_parts(settings, has_image=torch.zeros(4, dtype=torch.bool))
    assert parts["query_photo"].item() == 0


@given(st.lists(st.lists(st.integers(-5, 5), max_size=6), min_size=1, max_size=6), st.randoms())
def test_listed_items_equals_looking_each_one_up(lists, random):
    keys = [random.randint(-5, 5) for _ in range(4)]
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
    covered = nothing()
    covered[0, 2] = True
    masked, open_ = (
        loss_parts(ObjectiveSettings(title_mask=mask), covered=covered)[1]["query_item"] for mask in (True, False)
    )
    assert masked < open_
