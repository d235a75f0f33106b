from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from models.make.modeling_make import MakeModel
from models.make.objectives import ObjectiveSettings, make_loss, pair_drawer
from models.make.objectives.matching import draw_pairs, hard_negatives, matching_loss, one_of_each
from tests.models.objectives.examples import batch, nothing, output
from tests.models.test_modeling_make import made, small_config


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(similarities, *, ignored, item_of=None) -> list[tuple[int, int, float]]:
    item_of = torch.arange(len(similarities)) if item_of is None else item_of
    ones = torch.ones(len(similarities))
    pairs = draw_pairs(similarities, item_of=item_of, weights=ones, ignored=ignored, generator=seeded())
    return list(zip(*(rows.tolist() for rows in pairs), strict=True))


def test_a_hard_negative_is_none_that_is_barred_nor_the_most_similar_one_percent():
    similarities = torch.randn(50, 120, generator=seeded(1)) * 3
    barred = torch.rand(50, 120, generator=seeded(2)) < 0.3
    found = hard_negatives(similarities, barred, seeded())
    for row, negative in enumerate(found.tolist()):
        candidates = [item for item in range(120) if not barred[row, item]]
        ranked = sorted(candidates, key=lambda item: -similarities[row, item])
        assert negative in ranked[2:], "1 % of 120, rounded up"


def test_hard_negatives_are_drawn_in_proportion_to_the_softmax_of_their_similarity():
    similarities = torch.tensor([[9.0, 2.0, 1.0, 0.0]]).expand(20_000, 4)
    found = hard_negatives(similarities, torch.zeros(20_000, 4, dtype=torch.bool), seeded())
    shares = found.bincount(minlength=4) / 20_000
    expected = torch.cat([torch.zeros(1), torch.tensor([2.0, 1.0, 0.0]).softmax(0)])
    torch.testing.assert_close(shares, expected, atol=0.015, rtol=0)


def test_one_query_of_each_product_is_drawn_by_weight_and_never_one_without():
    item_of, weights = torch.tensor([0, 0, 0, 2, 3]), torch.tensor([1.0, 3.0, 0.0, 1.0, 0.0])
    counts = Counter()
    for seed in range(400):
        queries = one_of_each(item_of, weights, 4, seeded(seed)).tolist()
        assert len(queries) == 2
        counts.update(queries)
    assert set(counts) == {0, 1, 3}
    assert counts[1] / 400 == pytest.approx(0.75, abs=0.08)


def test_each_product_stands_beside_its_query_a_hard_product_and_a_hard_query():
    item_of = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1])
    similarities = torch.randn(8, 6, generator=seeded(1))
    ignored = torch.rand(8, 6, generator=seeded(2)) < 0.2
    pairs = drawn(similarities, item_of=item_of, ignored=ignored)
    products = len(pairs) // 3
    assert products >= 4
    for (query, item, match), (same, other_item, _), (other_query, own, _) in zip(
        pairs[:products], pairs[products : 2 * products], pairs[2 * products :], strict=True
    ):
        assert match == 1
        assert item_of[query] == item
        assert (query, item) == (same, own)
        assert item_of[same] != other_item
        assert item_of[other_query] != own
        assert not ignored[same, other_item]
        assert not ignored[other_query, own]
    assert [match for _, _, match in pairs] == [1] * products + [0] * 2 * products


def test_a_row_without_candidates_is_skipped():
    similarities = torch.randn(4, 4, generator=seeded())
    assert drawn(similarities, ignored=~nothing(4, 4)) == []
    ignored = nothing(4, 4)
    ignored[0] = True
    assert {item for _, item, match in drawn(similarities, ignored=ignored) if match} == {1, 2, 3}
    assert drawn(similarities[:1, :1], ignored=nothing(1, 1)) == [], "nothing but itself"


def judged(ignored: torch.Tensor, **changes):
    """A model with a head, and its output for a batch whose query i belongs to item i."""
    model, inputs = made(matching_head=True, **changes)
    kinds = torch.zeros(6, dtype=torch.int64)
    example = batch(item_of=torch.arange(6), kinds=kinds, relevant=ignored, neighbors=ignored)
    draw = pair_drawer(example, ObjectiveSettings(matching_weight=1), generator=seeded())
    pairs = []
    kept = model(**inputs, draw_pairs=lambda similarities: pairs.append(draw(similarities)) or pairs[0])
    return model, inputs, kept, pairs[0]


@pytest.mark.parametrize("changes", [{}, {"cross_attention": True}, {"use_image": False}, {"fusion": "single_stream"}])
def test_the_loss_is_the_mean_over_pairs_judged_one_by_one(changes):
    model, inputs, kept, pairs = judged(torch.zeros(6, 6, dtype=torch.bool), **changes)
    losses = []
    for query, item, match in zip(*(rows.tolist() for rows in pairs), strict=True):
        states = model.query_encoder(inputs["query_ids"][query : query + 1])
        product = model.item_states(
            **{name: inputs[name][item : item + 1] for name in ("title_ids", "pixel_values", "has_image")}
        )
        logit = model.matching_head(*states, *product.to_tuple())
        losses.append(F.binary_cross_entropy_with_logits(logit, torch.tensor([match])).item())
    assert len(losses) == 18
    loss = matching_loss(kept.matching_logits, kept.matches)
    assert loss.item() == pytest.approx(sum(losses) / 18, rel=1e-4)


def test_pairs_that_are_no_negatives_give_no_gradient_and_every_weight_stays_in_the_graph():
    model, _, kept, pairs = judged(torch.ones(6, 6, dtype=torch.bool))
    assert len(pairs.matches) == 0
    loss = matching_loss(kept.matching_logits, kept.matches)
    loss.backward()
    assert loss == 0
    assert all(parameter.grad.abs().max() == 0 for parameter in model.matching_head.parameters())


def test_the_head_comes_back_from_a_saved_folder(tmp_path):
    model, _ = made(matching_head=True)
    model.save_pretrained(tmp_path)
    loaded = MakeModel.from_pretrained(tmp_path).state_dict()
    assert any("matching_head" in name for name in loaded)
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


def test_a_weight_of_zero_leaves_it_out_of_model_and_loss():
    off = ObjectiveSettings()
    assert not off.heads["matching_head"]
    assert ObjectiveSettings(matching_weight=1).heads["matching_head"]
    assert pair_drawer(batch(), off, generator=torch.Generator()) is None
    assert not any("matching" in name for name in MakeModel(small_config()).state_dict())
    assert "matching" not in make_loss(output(), batch(), settings=off, margin=0.0)[1]
