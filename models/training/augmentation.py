"""What training does to products, so that none is learnt by heart and neither title nor photo trusted blindly."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from models.make.objectives import TrainingBatch
from models.training.settings import TrainSettings

# Words that a stuffed title gets, at least and at most.
STUFFED_WORDS = (3, 9)


def augment(
    batch: TrainingBatch, settings: TrainSettings, *, progress: float, padding_id: int, generator: torch.Generator
) -> TrainingBatch:
    """All that the settings ask for.

    Args:
        progress: share of training that is done, 0..1; in the last `plain_share` nothing is withheld.
        padding_id: stands in for words.
        generator: seeded by step, so that a resumed run sees the same.
    """
    if progress < 1.0 - settings.plain_share:
        batch = drop_modalities(
            batch,
            title=settings.title_dropout,
            title_words=settings.title_word_dropout,
            photo=settings.photo_dropout,
            padding_id=padding_id,
            generator=generator,
        )
    if settings.flip_photos or settings.crop_photos:
        varied = {"flip": settings.flip_photos, "crop": settings.crop_photos, "generator": generator}
        batch = replace(batch, pixels=vary_photos(batch.pixels, **varied))
    if settings.swap_photos:
        batch = swap_photos(batch, share=settings.swap_photos, generator=generator)
    if settings.stuff_titles:
        batch = stuff_titles(batch, share=settings.stuff_titles, generator=generator)
    return batch


def drop_modalities(
    batch: TrainingBatch,
    *,
    title: float,
    title_words: float,
    photo: float,
    padding_id: int,
    generator: torch.Generator,
) -> TrainingBatch:
    """Withhold whole titles, single words of titles, and photos at random, but never both of a product.

    Trained plainly the model reads titles and ignores photos; a title that may be missing makes it look.

    Args:
        title, title_words, photo: shares in 0..1 of what is withheld.
        padding_id: stands in for words.
        generator: seeded by step, so that a resumed run withholds the same.
    """

    def chance(shape: tuple[int, ...], share: float) -> Tensor:
        return torch.rand(shape, generator=generator) < share

    words = batch.title_shown  # special tokens stay
    whole_title = chance((len(batch), 1), title)
    dropped = words & (chance(tuple(words.shape), title_words) | whole_title)
    emptied = ~(words & ~dropped).any(dim=1)
    dropped &= (batch.has_image | ~emptied)[:, None]
    with_photo = batch.has_image & (emptied | ~chance((len(batch),), photo))
    return replace(
        batch,
        title_ids=batch.title_ids.masked_fill(dropped[..., None], padding_id),
        title_shown=words & ~dropped,
        has_image=with_photo,
    )


def vary_photos(pixels: Tensor, *, flip: float, crop: float, generator: torch.Generator) -> Tensor:
    """Mirror photos, and stretch a part of each to the whole, by the nearest pixel.

    Args:
        pixels: uint8 (photos, height, width, 3).
        flip: share of photos mirrored left to right.
        crop: largest share of a photo's height, and of its width, that is cut off; how much, and where, is uniform.
        generator: seeded by step, so that a resumed run sees the same photos.
    """
    count, height, width, _ = pixels.shape
    if crop:
        rows = _cropped(count, height, crop, generator)
        columns = _cropped(count, width, crop, generator)
    else:
        rows, columns = (torch.arange(size).expand(count, size) for size in (height, width))
    mirrored = torch.rand(count, 1, generator=generator) < flip
    columns = torch.where(mirrored, columns.flip(1), columns)
    photos = torch.arange(count)[:, None, None]
    places = (photos * height + rows[:, :, None]) * width + columns[:, None, :]
    return pixels.flatten(0, 2).index_select(0, places.flatten()).view_as(pixels)


def _cropped(count: int, size: int, crop: float, generator: torch.Generator) -> Tensor:
    """(count, size) int64: where along a side of `size` pixels each pixel of a random part, stretched, comes from."""
    share = 1.0 - crop * torch.rand(count, 1, generator=generator)
    start = (1.0 - share) * torch.rand(count, 1, generator=generator)
    centres = (torch.arange(size) + 0.5) / size
    return ((start + share * centres) * size).long().clamp(max=size - 1)


def swap_photos(batch: TrainingBatch, *, share: float, generator: torch.Generator) -> TrainingBatch:
    """Show some products under each other's photos: a photo that does not fit its title has to be passed over.

    Args:
        share: of the products that have a photo and a word of their title.
    """
    drawn = torch.rand(len(batch), generator=generator) < share
    rows = (drawn & batch.shows_both).nonzero().squeeze(1)
    if len(rows) < 2:
        return batch
    pixels = batch.pixels.clone()
    pixels[rows] = batch.pixels[rows.roll(1)]
    swapped = torch.zeros(len(batch), dtype=torch.bool)
    swapped[rows] = True
    return replace(batch, pixels=pixels, photo_swapped=swapped)


def stuff_titles(batch: TrainingBatch, *, share: float, generator: torch.Generator) -> TrainingBatch:
    """Put words of other titles behind the last word of some, as sellers do to be found by whatever is asked for.

    Args:
        share: of the titles that have a word; titles as long as the batch's longest have no room for more.
    """
    items, length = batch.title_shown.shape
    least, most = STUFFED_WORDS
    place = torch.arange(length)
    end = torch.where(batch.title_shown, place + 1, 0).amax(dim=1)  # of the last word
    more = torch.randint(least, most + 1, (items,), generator=generator)
    more *= (torch.rand(items, generator=generator) < share) & (end > 0)
    more = more.minimum((length - 1 - end).clamp(min=0))  # one place is left for the token that ends a title
    rows = more.nonzero().squeeze(1)
    if len(rows) == 0:
        return batch
    put = (place >= end[:, None]) & (place < (end + more)[:, None])
    words = batch.title_ids[batch.title_shown]
    title_ids = batch.title_ids.clone()
    title_ids[rows, (end + more)[rows]] = batch.title_ids[rows, end[rows]]
    title_ids[put] = words[torch.randint(len(words), (int(put.sum()),), generator=generator)]
    return replace(batch, title_ids=title_ids, title_shown=batch.title_shown | put)
