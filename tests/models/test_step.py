"""One step of training: its gradient is bounded, refused when it is not finite, and hardly changed by bfloat16."""

from collections.abc import Iterator

import pytest
import torch

from models.make.objectives import TrainingBatch
from models.training.distributed import joined_process
from models.training.trainer import Trainer
from tests.models.test_trainer import settings


@pytest.fixture
def begin(training_set, tmp_path) -> Iterator:
    """Settings to a trainer that has not made a step yet, and its first batch."""

    def begun(**changes) -> tuple[Trainer, TrainingBatch]:
        torch.manual_seed(0)  # the same first weights every time
        trainer = Trainer(settings(training_set, tmp_path, **changes), process)
        return trainer, next(iter(trainer.data.epoch(0, last=True)))

    with joined_process() as process:
        yield begun


def gradient_of(trainer: Trainer) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in trainer.model.parameters()])


def test_the_gradient_of_a_step_is_no_longer_than_its_bound(begin):
    lengths = []
    for bound in (1e9, 0.01):
        trainer, batch = begin(clip_norm=bound)
        trainer.step(batch, number=0, progress=0.5)
        lengths.append(gradient_of(trainer).norm().item())
    assert lengths[1] == pytest.approx(0.01, rel=1e-3)
    assert lengths[0] > 10 * lengths[1]


def test_a_gradient_that_is_not_finite_ends_training_and_leaves_the_weights(begin):
    trainer, batch = begin()
    trainer.model.item_projection.bias.data[0] = float("nan")
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    with pytest.raises(RuntimeError, match=r"step 3: the gradient is not finite .* lower learning_rate"):
        trainer.step(batch, number=3, progress=0.5)
    for parameter, was in zip(trainer.model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter, was, atol=0, rtol=0, equal_nan=True)


def test_bfloat16_gives_nearly_the_loss_and_the_gradient_of_float32(begin):
    losses, gradients = [], []
    for precision in ("float32", "bfloat16"):
        trainer, batch = begin(precision=precision)
        losses.append(trainer.step(batch, number=0, progress=0.5)[0].item())
        gradients.append(gradient_of(trainer))
    assert losses[0] != losses[1], "one of the two is not computed as asked"
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.95
