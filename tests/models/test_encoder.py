import json

import numpy as np
import pytest
import torch

from models.encoder import Encoder
from models.training.checkpoint import load_model_folder
from tests.photos import jpeg, truncated_jpeg

TITLES = ["Red dress", "Blue shirt", "Shoes", "Hat", ""]
PHOTOS = [jpeg("red"), None, b"", truncated_jpeg("blue"), jpeg("green")]


@pytest.fixture(scope="module")
def encoder(model_folder) -> Encoder:
    return Encoder.from_folder(model_folder, device="cpu")


def test_every_product_gets_a_unit_vector_and_says_what_became_of_its_photo(encoder):
    vectors = encoder.embed_items(encoder.prepare_items(TITLES, PHOTOS))
    assert vectors.image_status == ["ok", "missing", "missing", "broken", "ok"]
    assert vectors.embedding.shape == (5, encoder.dim)
    assert all(part.dtype == np.float32 for name, part in vars(vectors).items() if name != "image_status")
    np.testing.assert_allclose(np.linalg.norm(vectors.embedding, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors.title_weight + vectors.image_weight, 1, atol=1e-6)


def test_a_truncated_photo_gets_a_title_only_vector(encoder):
    broken = encoder.embed_items(encoder.prepare_items(["Hat"], [truncated_jpeg("blue")]))
    missing = encoder.embed_items(encoder.prepare_items(["Hat"], [None]))
    np.testing.assert_array_equal(broken.embedding, missing.embedding)
    assert broken.image_weight == broken.photo_effect == 0


def test_photo_effect_is_one_minus_the_cosine_to_the_vector_without_photo(encoder):
    full = encoder.embed_items(encoder.prepare_items(["Red dress"], [jpeg("red")]))
    bare = encoder.embed_items(encoder.prepare_items(["Red dress"], [None]))
    assert full.photo_effect[0] == pytest.approx(1 - float(full.embedding[0] @ bare.embedding[0]), abs=1e-6)
    assert full.photo_effect[0] > 0


def test_more_items_than_one_forward_takes_come_back_in_order(encoder):
    titles = [f"dress {number}" for number in range(600)]
    photos = [jpeg("red") if number % 3 else None for number in range(600)]
    together = encoder.embed_items(encoder.prepare_items(titles, photos))
    for row in (0, 255, 256, 599):
        alone = encoder.embed_items(encoder.prepare_items([titles[row]], [photos[row]]))
        np.testing.assert_allclose(together.embedding[row], alone.embedding[0], atol=1e-5)


def test_a_forward_pass_that_memory_cannot_hold_is_halved_until_it_fits(model_folder, monkeypatch):
    titles, photos = [f"dress {number}" for number in range(300)], [jpeg("red")] * 300
    plenty = Encoder.from_folder(model_folder, device="cpu")
    expected = plenty.embed_items(plenty.prepare_items(titles, photos))
    encoder = Encoder.from_folder(model_folder, device="cpu")
    passes = []

    def with_little_memory(forward):
        def run(ids, *others):
            passes.append(len(ids))
            if len(ids) > 70:
                raise torch.OutOfMemoryError("out of memory")
            return forward(ids, *others)

        return run

    monkeypatch.setattr(encoder.model, "item_states", with_little_memory(encoder.model.item_states))
    monkeypatch.setattr(encoder.model, "encode_queries", with_little_memory(encoder.model.encode_queries))
    vectors = encoder.embed_items(encoder.prepare_items(titles, photos))
    assert passes == [256, 128, 64, 64, 64, 64, 44]
    np.testing.assert_allclose(vectors.embedding, expected.embedding, atol=1e-6)
    passes.clear()
    np.testing.assert_allclose(encoder.embed_queries(titles), plenty.embed_queries(titles), atol=1e-6)
    assert passes == [64, 64, 64, 64, 44]


def test_a_row_for_which_there_is_no_memory_ends_the_task(model_folder, monkeypatch):
    encoder = Encoder.from_folder(model_folder, device="cpu")

    def without_memory(*_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(encoder.model, "encode_queries", without_memory)
    with pytest.raises(torch.OutOfMemoryError):
        encoder.embed_queries(["red dress"])


def test_in_16_bits_vectors_are_nearly_those_of_a_cpu(model_folder, encoder, monkeypatch):
    monkeypatch.setattr("models.encoder.serving_precision", lambda device: torch.bfloat16)
    rough = Encoder.from_folder(model_folder, device="cpu")
    prepared = rough.prepare_items(TITLES, PHOTOS)
    vectors, exact = rough.embed_items(prepared), encoder.embed_items(prepared)
    assert all(part.dtype == np.float32 for name, part in vars(vectors).items() if name != "image_status")
    np.testing.assert_allclose(np.linalg.norm(vectors.embedding, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors.title_weight + vectors.image_weight, 1, atol=1e-3)
    cosines = (vectors.embedding * exact.embedding).sum(axis=1)
    assert cosines.min() > 0.999 and not np.array_equal(vectors.embedding, exact.embedding)
    assert (rough.embed_queries(TITLES) * encoder.embed_queries(TITLES)).sum(axis=1).min() > 0.999


def test_nothing_in_gives_nothing_out(encoder):
    assert encoder.embed_items(encoder.prepare_items([], [])).embedding.shape == (0, encoder.dim)
    assert encoder.embed_queries([]).shape == (0, encoder.dim)


def test_width_and_case_of_a_query_do_not_change_its_vector(encoder):
    plain, wide = encoder.prepare_queries(["red dress", "  ＲＥＤ Dress "])
    np.testing.assert_array_equal(plain, wide)
    # Each by itself: where a row lies in a batch may change its last bit on some CPUs.
    vectors = [encoder.embed_prepared_queries([tokens]) for tokens in (plain, wide)]
    np.testing.assert_array_equal(*vectors)


def test_titles_and_photos_must_pair_up(encoder):
    with pytest.raises(ValueError, match="got 2 titles and 1 photos"):
        encoder.prepare_items(["a", "b"], [None])


def test_a_changed_file_is_refused_by_name(model_folder, tmp_path):
    copy = tmp_path / "model"
    copy.mkdir()
    for path in model_folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    config = json.loads((copy / "processor_config.json").read_text())
    (copy / "processor_config.json").write_text(json.dumps({**config, "image_mean": [0.5, 0.5, 0.5]}))
    with pytest.raises(ValueError, match=r"processor_config\.json: expected SHA-256 .* copy it again"):
        Encoder.from_folder(copy)
    (copy / "processor_config.json").unlink()
    with pytest.raises(ValueError, match="got no file"):
        load_model_folder(copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="no complete model folder"):
        load_model_folder(copy)


def test_the_version_names_weights_and_preprocessing(model_folder, tmp_path):
    import datetime as dt

    from models.training.checkpoint import save_model_folder

    loaded = load_model_folder(model_folder)

    def save(name: str) -> dict:
        return save_model_folder(
            tmp_path / name, loaded.model, loaded.processor, trained_on=dt.date(2026, 11, 2), card="# Other words\n"
        )

    same = save("same")
    assert same["weights_digest"] == loaded.weights_digest
    assert same["preprocessing_digest"] == loaded.preprocessing_digest
    assert same["model_version"] == loaded.model_version.replace("20261101", "20261102")
    loaded.processor.image_std = [0.5, 0.5, 0.5]
    other_pixels = save("other_pixels")
    loaded.model.log_temperature.data += 0.1
    other_weights = save("other_weights")
    assert other_pixels["weights_digest"] == same["weights_digest"]
    assert len({saved["model_version"] for saved in (same, other_pixels, other_weights)}) == 3
