from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from models.make.configuration_make import preset_config
from models.make.processing_make import MakeProcessor, train_wordpiece
from tests.photos import jpeg, truncated_jpeg

TEXTS = ["red dress for women", "blue running shoes", "red shoes"] * 3


def processor(text_encoder: str) -> MakeProcessor:
    return MakeProcessor.for_config(preset_config("tiny", text_encoder=text_encoder, vocab_size=2048), TEXTS)


@pytest.mark.parametrize("text_encoder", ["subwords", "bert"])
def test_a_processor_reads_the_same_after_saving_and_loading(text_encoder, tmp_path):
    before = processor(text_encoder)
    before.save_pretrained(tmp_path)
    after = MakeProcessor.from_pretrained(tmp_path)
    texts = ["Red dréss", "", "unseen wörds 🙂 红色", "x" * 300]
    for first, second in zip(before.tokenize_titles(texts), after.tokenize_titles(texts), strict=True):
        np.testing.assert_array_equal(first, second)
    assert after.to_dict() == before.to_dict()


@pytest.mark.parametrize("text_encoder", ["subwords", "bert"])
def test_every_text_begins_with_cls_and_keeps_to_its_length(text_encoder):
    tokens = processor(text_encoder).tokenize_queries(["", "?!", "word " * 100])
    assert all(row[0, 0] == 1 for row in tokens)
    assert len(tokens[2]) == 32


def test_accents_and_rare_letters_are_no_unknown_words():
    tokenizer = train_wordpiece(TEXTS, vocab_size=1000)
    assert "[UNK]" not in tokenizer.tokenize("zxq ñandú dréss £5")
    assert tokenizer.tokenize("🙂") == ["[UNK]"]


def test_a_words_pieces_do_not_depend_on_the_words_beside_it():
    first, second = processor("subwords").tokenize_titles(["dress shoes", "shoes dress"])
    assert np.array_equal(first[1], second[2])


def test_padding_adds_only_zeros():
    made = processor("subwords")
    tokens = made.tokenize_titles(["red", "red dress for women"])
    padded = made.pad(tokens)
    assert padded.shape == (2, 5, made.pieces_per_word)
    assert not padded[0, 2:].any()
    np.testing.assert_array_equal(padded[0, :2].numpy(), tokens[0])


def test_photos_that_are_absent_or_broken_decode_to_nothing():
    with ThreadPoolExecutor(2) as pool:
        photos = [jpeg("red"), b"", None, truncated_jpeg("red"), b"no photo at all", jpeg("blue")]
        decoded = processor("subwords").decode_photos(photos, pool)
    assert [photo is not None for photo in decoded] == [True, False, False, False, False, True]
    assert decoded[0].shape == (*processor("subwords").image_size, 3)
    assert decoded[0].mean((0, 1)).argmax() == 0
    assert decoded[5].mean((0, 1)).argmax() == 2


def test_pixels_are_normalised_by_channel():
    made = processor("subwords")
    mean = torch.tensor(made.image_mean) * 255
    pixels = mean.round().to(torch.uint8).expand(2, *made.image_size, 3)
    normal = made.normalize_pixels(pixels)
    assert normal.shape == (2, 3, *made.image_size)
    assert normal.abs().max() < 0.02
