import pytest
import torch
import torch.nn.functional as F

from models.make.objectives import ItemFacts, MemoryBank, ObjectiveSettings, make_loss
from tests.models.objectives.examples import batch, output, unit

EVERY_CONTRAST = ObjectiveSettings(image_text_weight=0.5)
SERVED = 5


def cut(vectors: torch.Tensor) -> torch.Tensor:
    return F.normalize(vectors[:, :SERVED], dim=-1)


def bank_of(vectors: torch.Tensor) -> MemoryBank:
    bank = MemoryBank(8)
    keys = torch.arange(100, 103)
    bank.add(vectors, ItemFacts(keys, keys, keys, log_queries=torch.ones(3, dtype=torch.int64)))
    return bank


def test_the_loss_is_the_mean_over_all_components_and_over_those_that_are_served():
    wide, held = output(), unit(3, seed=9)
    narrow = output(**{name: cut(vectors) for name, vectors in wide.item.items()})
    narrow.query_embedding = cut(wide.query_embedding)
    asked = {"settings": EVERY_CONTRAST, "margin": 0.1}
    (all_components, _), (served, parts) = (
        make_loss(vectors, batch(), bank=bank_of(of_bank), **asked)
        for vectors, of_bank in ((wide, held), (narrow, cut(held)))
    )
    bank = bank_of(held)
    found, found_parts = make_loss(wide, batch(), served_dim=SERVED, bank=bank, **asked)
    assert found.item() == pytest.approx((all_components.item() + served.item()) / 2, rel=1e-6)
    assert {name: part.item() for name, part in found_parts.items()} == pytest.approx(
        {name: part.item() for name, part in parts.items()}
    )
    assert bank.tensors()["embeddings"].shape == (7, 8), "the bank keeps what both need"


def test_where_all_components_are_served_nothing_is_counted_twice():
    asked = {"settings": EVERY_CONTRAST, "margin": 0.1}
    assert torch.equal(make_loss(output(), batch(), **asked)[0], make_loss(output(), batch(), served_dim=8, **asked)[0])
