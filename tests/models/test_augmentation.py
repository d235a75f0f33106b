import pytest
import torch

from models.training.augmentation import vary_photos


def photos(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 6, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def varied(pixels: torch.Tensor, *, seed: int = 0, **changes) -> torch.Tensor:
    return vary_photos(pixels, **{"flip": 0.0, "crop": 0.0, **changes}, generator=torch.Generator().manual_seed(seed))


def test_about_the_share_of_photos_is_mirrored_and_the_others_are_untouched():
    before = photos(400)
    after = varied(before, flip=0.3)
    mirrored = (after == before.flip(2)).flatten(1).all(dim=1)
    untouched = (after == before).flatten(1).all(dim=1)
    assert (mirrored ^ untouched).all()
    assert 0.2 < mirrored.float().mean() < 0.4


@pytest.mark.parametrize("crop", [0.3, 0.8])
def test_a_cropped_photo_is_a_part_of_itself_stretched(crop):
    """Rows and columns keep their order, and span no less than what may not be cut off."""
    height, width = 60, 50
    rows, columns = torch.arange(height)[:, None].expand(height, width), torch.arange(width).expand(height, width)
    before = torch.stack([rows, columns, torch.zeros_like(rows)], dim=-1).to(torch.uint8).expand(100, -1, -1, -1)
    after = varied(before, crop=crop).long()
    spans = []
    for found, size in ((after[:, :, 0, 0], height), (after[:, 0, :, 1], width)):
        assert (found.diff(dim=1) >= 0).all()
        spans.append((found[:, -1] - found[:, 0] + 1) / size)
    assert min(span.min() for span in spans) >= 1 - crop - 0.05
    assert all(span.std() > 0.05 for span in spans)
    assert not torch.equal(*spans), "each side for itself"


def test_photos_vary_by_the_seed_alone_and_not_at_all_when_that_is_off():
    before = photos(20)
    assert torch.equal(varied(before), before)
    assert torch.equal(varied(before, flip=0.5, crop=0.5), varied(before, flip=0.5, crop=0.5))
    assert not torch.equal(varied(before, flip=0.5, crop=0.5), varied(before, flip=0.5, crop=0.5, seed=1))
