import math

import pytest
import torch

from models.make.objectives import ObjectiveSettings, make_loss
from models.make.objectives.contrastive import contrastive_loss
from tests.models.objectives.examples import ITEM_OF, TAU, batch, nothing, output, unit

ONES = torch.ones(7)


def loss_of(queries, items, *, ignored=None, item_of=ITEM_OF, weights=ONES, counts=None, margin=0.0) -> torch.Tensor:
    ignored = nothing(len(queries), len(items)) if ignored is None else ignored
    return contrastive_loss(
        queries,
        items,
        item_of=item_of,
        weights=weights,
        temperature=TAU,
        ignored=ignored,
        counts=counts,
        margin=margin,
    )


def slow_loss(queries, items, *, ignored, item_of=ITEM_OF, weights=ONES, counts=None, margin=0.0) -> float:
    """The definition, a term at a time."""
    total = 0.0
    for i, own in enumerate(item_of.tolist()):
        positive = (float(queries[i] @ items[own]) - margin) / 0.1
        others = [j for j in range(len(items)) if j != own and not ignored[i][j]]
        others = [j for j in others for _ in range(1 if counts is None else int(counts[i][j]))]
        rivals = [float(queries[i] @ items[j]) / 0.1 for j in others]
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
    counts = torch.randint(1, 4, (7, 4), generator=generator)
    options = {"ignored": ignored, "weights": weights, "counts": counts, "margin": margin}
    assert loss_of(queries, items, **options).item() == pytest.approx(slow_loss(queries, items, **options), rel=1e-5)


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


def loss_parts(settings: ObjectiveSettings, **changes):
    return make_loss(output(), batch(**changes), settings=settings, margin=0.0)


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
        settings = ObjectiveSettings(neighbor_positive_weight=weight, pseudo_query_weight=0.25)
        weights = torch.tensor([1, weight, 1, 1, 1, 1, 0.25])
        expected = slow_loss(made.query_embedding, made.item.embedding, ignored=nothing(), weights=weights)
        assert loss_parts(settings)[1]["query_item"].item() == pytest.approx(expected, rel=1e-5)


def test_a_product_counts_as_often_as_the_log_leads_to_it_unless_that_is_switched_off():
    occurrences = torch.ones(7, 4, dtype=torch.int16)
    occurrences[0, 1], occurrences[1, 2] = 3, 0
    made = output()
    for matched in (True, False):
        settings = ObjectiveSettings(match_popularity=matched, neighbor_positive_weight=1.0)
        expected = slow_loss(
            made.query_embedding,
            made.item.embedding,
            ignored=(occurrences == 0) & matched,
            counts=occurrences.clamp(min=1) if matched else None,
        )
        parts = loss_parts(settings, occurrences=occurrences)[1]
        assert parts["query_item"].item() == pytest.approx(expected, rel=1e-5)


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
