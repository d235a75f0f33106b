import pytest
import torch

from models.make.objectives import ObjectiveSettings, make_loss
from models.make.objectives.image_text import image_text_loss
from tests.models.objectives.examples import TAU, batch, output, unit

ON = ObjectiveSettings(image_text_weight=0.5)


def slow_loss(titles, photos, *, shown, same) -> float:
    """The definition, a product at a time."""
    rows = [i for i in range(len(titles)) if shown[i]]
    losses = []
    for i in rows:
        rivals = [i, *(j for j in rows if not same[i][j])]
        of_photos = torch.stack([titles[i] @ photos[j] / TAU for j in rivals])
        of_titles = torch.stack([titles[j] @ photos[i] / TAU for j in rivals])
        losses += [-of_photos.log_softmax(0)[0] / 2, -of_titles.log_softmax(0)[0] / 2]
    return float(sum(losses)) / len(rows)


def test_titles_and_photos_are_contrasted_among_products_that_show_both():
    titles, photos = unit(6), unit(6, seed=1)
    shown = torch.tensor([True, True, False, True, True, True])
    same = torch.eye(6, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    loss = image_text_loss(titles, photos, shows_both=shown, same=same, temperature=TAU)
    assert loss.item() == pytest.approx(slow_loss(titles, photos, shown=shown, same=same), rel=1e-5)


def test_products_of_the_same_title_and_those_without_a_word_get_no_gradient_from_each_other():
    """Three products share a title, the fourth's is withheld to its last word."""
    titles, photos = unit(4).requires_grad_(), unit(4, seed=1).requires_grad_()
    items = batch().items._replace(title_keys=torch.tensor([1, 1, 1, 3]))
    title_shown = torch.tensor([[False, True]] * 3 + [[False, False]])
    made = output(title_embedding=titles, image_embedding=photos)
    only = ObjectiveSettings(image_text_weight=1, query_photo_weight=0, query_title_weight=0)
    loss, parts = make_loss(made, batch(items=items, title_shown=title_shown), settings=only, margin=0.0)
    loss.backward()
    assert parts["image_text"] == 0
    assert titles.grad.abs().max() == photos.grad.abs().max() == 0


def test_its_weight_counts_and_a_weight_of_zero_leaves_it_out():
    total, parts = make_loss(output(), batch(), settings=ON, margin=0.0)
    plain, without = make_loss(output(), batch(), settings=ObjectiveSettings(), margin=0.0)
    assert total.item() == pytest.approx(plain.item() + 0.5 * parts["image_text"].item(), rel=1e-6)
    assert set(parts) - set(without) == {"image_text"}


@pytest.mark.parametrize("photos", [0, 1])
def test_no_photo_and_a_single_one_give_finite_gradients(photos):
    has_image = torch.arange(4) < photos
    vectors = unit(4, seed=3).requires_grad_()
    loss, parts = make_loss(output(image_embedding=vectors), batch(has_image=has_image), settings=ON, margin=0.0)
    loss.backward()
    assert parts["image_text"] == 0
    assert torch.isfinite(vectors.grad).all()
