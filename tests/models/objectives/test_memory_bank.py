import math

import pytest
import torch

from models.make.objectives import ItemFacts, MemoryBank, ObjectiveSettings, make_loss
from models.make.objectives.batch import query_weights
from tests.models.objectives.examples import ITEM_OF, KINDS, TAU, batch, output, unit

ONLY_ITEMS = ObjectiveSettings(query_photo_weight=0, query_title_weight=0)


def unknown_items(count: int) -> ItemFacts:
    keys = torch.arange(100, 100 + count)
    return ItemFacts(keys, keys, keys, log_queries=torch.ones(count, dtype=torch.int64))


def loss_with(bank: MemoryBank | None, made=None) -> torch.Tensor:
    return make_loss(made or output(), batch(), settings=ONLY_ITEMS, margin=0.0, bank=bank)[0]


def test_items_of_the_bank_are_negatives_of_queries_alone():
    made, held = output(), unit(3, seed=9)
    bank = MemoryBank(8)
    bank.add(held, unknown_items(3))
    losses = []
    for i, own in enumerate(ITEM_OF.tolist()):
        scores = made.query_embedding @ made.item.embedding.T / TAU
        rivals = [
            *(scores[i, j] for j in range(4) if j != own),
            *(made.query_embedding[i] @ item / TAU for item in held),
        ]
        of_items = torch.stack([scores[i, own], *rivals]).log_softmax(0)[0]
        rivals = [scores[j, own] for j in range(7) if ITEM_OF[j] != own]
        of_queries = torch.stack([scores[i, own], *rivals]).log_softmax(0)[0]
        losses.append(-(of_items + of_queries).item() / 2)
    weights = query_weights(KINDS, ONLY_ITEMS).tolist()
    expected = math.fsum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
    assert loss_with(bank, made).item() == pytest.approx(expected, rel=1e-5)


def test_what_is_known_to_be_relevant_gets_no_gradient_from_the_bank():
    """Clicked, clicked by a similar query, of the same title, of the same photo."""
    listed = torch.tensor([1] * 7)
    known = batch()
    known.queries = known.queries._replace(
        clicked_items=torch.full((7,), 100),
        clicked_counts=listed,
        neighbor_items=torch.full((7,), 101),
        neighbor_counts=listed,
        title_keys=torch.full((7,), 102),
        photo_keys=torch.full((7,), 103),
    )
    bank = MemoryBank(4)
    bank.add(unit(4, seed=9), unknown_items(4))
    gradients = []
    for more in (bank, None):
        made = output()
        made.query_embedding.requires_grad_()
        make_loss(made, known, settings=ONLY_ITEMS, margin=0.0, bank=more)[0].backward()
        gradients.append(made.query_embedding.grad)
    torch.testing.assert_close(*gradients)


def test_the_newest_items_stay_and_hold_no_graph():
    bank = MemoryBank(6)
    for first in (0, 4):
        made = output(embedding=unit(4, seed=first).requires_grad_())
        loss_with(bank, made)
    held = bank.tensors()
    assert torch.equal(held["embeddings"], torch.cat([unit(4)[2:], unit(4, seed=4)]))
    assert held["item_keys"].tolist() == [3, 4, 1, 2, 3, 4]
    assert not held["embeddings"].requires_grad


def test_an_empty_bank_changes_nothing_and_none_is_kept_by_default():
    assert loss_with(MemoryBank(4)) == loss_with(None)
    assert ObjectiveSettings().bank_items == 0
    assert MemoryBank(4).tensors() == {}


def test_a_restored_bank_gives_the_same_loss():
    bank, again, empty = MemoryBank(6), MemoryBank(6), MemoryBank(6)
    for _ in range(2):
        loss_with(bank)
    again.restore(bank.tensors(), torch.device("cpu"))
    empty.restore({}, torch.device("cpu"))
    assert loss_with(again) == loss_with(bank) != loss_with(empty)


def test_a_bank_that_would_differ_by_process_is_refused():
    with pytest.raises(ValueError, match="bank_items needs gather_negatives"):
        ObjectiveSettings(bank_items=8, gather_negatives=False)
