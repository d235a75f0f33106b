from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from models.make.configuration_make import preset_config
from models.make.objectives import TrainingBatch
from models.make.processing_make import MakeProcessor
from models.training.augmentation import (
    STUFFED_WORDS,
    augment,
    drop_modalities,
    stuff_titles,
    swap_photos,
    vary_photos,
)
from models.training.settings import TrainSettings
from tests.models.test_data import training_data


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


@pytest.fixture(scope="module", params=["subwords", "bert"])
def processor(request, training_set) -> MakeProcessor:
    sizes = {"vocab_size": 2048, "image_height": 32, "image_width": 32}
    config = preset_config("tiny", text_encoder=request.param, **sizes)
    return MakeProcessor.for_config(config, ["red dress", "blue shoes for men", "green hat"] * 9)


@pytest.fixture(scope="module")
def batch(processor, training_set) -> TrainingBatch:
    (batch,) = training_data(training_set, processor, batch_size=96).epoch(0, last=True)
    assert 0.3 < batch.has_image.float().mean() < 1
    # The set's photos are of one colour each, which no mirror changes, and its titles all about as long.
    return replace(
        batch,
        pixels=torch.randint(0, 256, batch.pixels.shape, dtype=torch.uint8, generator=seeded()),
        title_ids=F.pad(batch.title_ids, (0, 0, 0, 8), value=processor.padding_id),
        title_shown=F.pad(batch.title_shown, (0, 8)),
    )


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_withholding_modalities_never_leaves_a_product_with_nothing(processor, batch):
    generator = torch.Generator().manual_seed(0)
    dropped = drop_modalities(batch, title=0.5, title_words=0.4, photo=0.5, padding_id=0, generator=generator)
    title_left = dropped.title_shown.any(dim=1)
    assert (title_left | dropped.has_image).all()
    assert torch.equal(dropped.title_ids[:, 0, 0], batch.title_ids[:, 0, 0])
    assert not (dropped.has_image & ~batch.has_image).any()
    assert 0.2 < title_left.float().mean() < 0.7
    assert 0.2 < dropped.has_image[title_left].float().mean() < 0.8
    plain = drop_modalities(batch, title=0, title_words=0, photo=0, padding_id=0, generator=generator)
    assert torch.equal(plain.title_ids, batch.title_ids)
    assert torch.equal(plain.has_image, batch.has_image)


def test_a_swapped_photo_is_another_products_and_no_query_has_to_be_found_by_it(batch):
    shown = replace(batch, title_shown=batch.title_shown & (torch.arange(len(batch)) % 4 > 0)[:, None])
    swapped = swap_photos(shown, share=0.5, generator=seeded())
    rows = swapped.photo_swapped
    assert 0.3 < rows[shown.shows_both].float().mean() < 0.7
    assert not rows[~shown.shows_both].any(), "without a title nothing but the photo is left"
    assert torch.equal(swapped.pixels[~rows], batch.pixels[~rows])
    before, after = ({photo.numpy().tobytes() for photo in one.pixels[rows]} for one in (batch, swapped))
    assert before == after
    assert (swapped.pixels != batch.pixels)[rows].flatten(1).any(dim=1).float().mean() > 0.5
    assert torch.equal(swapped.own_photo, batch.has_image & ~rows)
    assert not (swapped.shows_both & rows).any()
    assert torch.equal(swap_photos(shown, share=0.5, generator=seeded()).pixels, swapped.pixels)


def test_a_stuffed_title_begins_as_it_was_and_goes_on_with_words_of_others(batch, processor):
    stuffed = stuff_titles(batch, share=0.6, generator=seeded())
    known = {tuple(word.tolist()) for word in batch.title_ids[batch.title_shown]}
    least, most = STUFFED_WORDS
    room, added = batch.title_ids.shape[1] - 1, []
    for row in range(len(batch)):
        before, after = (one.title_ids[row][one.title_shown[row]] for one in (batch, stuffed))
        assert torch.equal(after[: len(before)], before)
        assert {tuple(word.tolist()) for word in after} <= known
        added.append(len(after) - len(before))
        assert added[-1] == 0 or least <= added[-1] <= most or len(after) >= room - 1
        tokens = [one.title_ids[row, :, 0] != processor.padding_id for one in (batch, stuffed)]
        special = [
            one.title_ids[row][t & ~one.title_shown[row]] for one, t in zip((batch, stuffed), tokens, strict=True)
        ]
        assert torch.equal(*special), "what begins and ends a title"
        assert tokens[1][: tokens[1].sum()].all(), "no hole"
    assert torch.equal(processor.is_word(stuffed.title_ids), stuffed.title_shown)
    assert 0.2 < (torch.tensor(added) > 0).float().mean() < 0.8
    assert len(set(added)) > 2
    assert torch.equal(stuff_titles(batch, share=0.6, generator=seeded()).title_ids, stuffed.title_ids)


def test_titles_without_a_word_or_without_room_stay_as_they_are(batch):
    empty = replace(batch, title_shown=torch.zeros_like(batch.title_shown))
    assert stuff_titles(empty, share=1.0, generator=seeded()) is empty
    full = replace(batch, title_shown=torch.ones_like(batch.title_shown))
    assert stuff_titles(full, share=1.0, generator=seeded()) is full


def test_the_last_share_of_training_withholds_nothing_and_still_varies(batch):
    off = {"title_dropout": 0.0, "title_word_dropout": 0.0, "photo_dropout": 0.0}
    off |= {"flip_photos": 0.0, "crop_photos": 0.0, "swap_photos": 0.0, "stuff_titles": 0.0}

    def augmented(progress: float, **on: float) -> TrainingBatch:
        settings = TrainSettings(training_set="none", output="none", date="2026-11-15", **{**off, **on})
        return augment(batch, settings, progress=progress, padding_id=0, generator=seeded())

    withheld = {"title_dropout": 0.5, "photo_dropout": 0.5}
    assert not torch.equal(augmented(0.79, **withheld).has_image, batch.has_image)
    assert torch.equal(augmented(0.8, **withheld).has_image, batch.has_image)
    assert torch.equal(augmented(0.8, **withheld).title_ids, batch.title_ids)
    for on in ({"flip_photos": 0.5}, {"crop_photos": 0.5}, {"swap_photos": 0.5}):
        assert not torch.equal(augmented(0.9, **on).pixels, batch.pixels)
    assert not torch.equal(augmented(0.9, stuff_titles=0.5).title_ids, batch.title_ids)
