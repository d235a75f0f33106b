"""A night embeds exactly what changed, whatever happened to the night before."""

import datetime as dt

import numpy as np
import pytest
import torch

from jobs.embedding import items as job
from jobs.embedding import vectors as embedding
from jobs.embedding.inference import ItemBatch, load_encoder, open_encoder
from jobs.embedding.staging import staged_rows, staging_parts, write_chunk
from models.make.photo import read_photo
from models.make.text import PADDING_ID
from models.training.checkpoint import load_model_folder, save_model_folder
from schemas import EMBEDDING_FAILURES, ITEM_EMBEDDINGS, ITEMS
from tests.embedding.products import DAY, NEXT_DAY, put_items, vectors
from tests.photos import ODD_PHOTOS, bomb, jpeg, saved, truncated_jpeg


@pytest.fixture
def catalog(lake, spark, promoted_model) -> str:
    put_items(
        lake,
        spark,
        ("a", "red dress", jpeg("red")),
        ("b", "blue shirt", jpeg("blue")),
        ("c", "green hat", None),
        ("d", "black shoe", truncated_jpeg("black")),
    )
    return promoted_model


def test_every_active_item_gets_the_vector_that_the_bare_model_gives(lake, run_job, catalog):
    record = run_job(job, date=DAY)
    assert (record["verdict"], record["rows_in"], record["rows_out"], record["rows_rejected"]) == ("succeeded", 4, 4, 0)
    encoder = open_encoder(lake.path("models", catalog), 1)
    expected = encoder.embed_items(encoder.prepare_items(["red dress"], [jpeg("red")]))
    stored = vectors(lake)["a"]
    np.testing.assert_allclose(stored["embedding"], expected.embedding[0], atol=1e-5)
    assert stored["image_weight"] == pytest.approx(float(expected.image_weight[0]), abs=1e-5)
    assert {row["model_version"] for row in vectors(lake).values()} == {catalog}


def test_a_missing_or_truncated_photo_gets_a_title_only_vector_that_says_so(lake, run_job, catalog):
    record = run_job(job, date=DAY)
    stored = vectors(lake)
    assert {i: row["image_status"] for i, row in stored.items()} == {
        "a": "ok",
        "b": "ok",
        "c": "missing",
        "d": "broken",
    }
    assert [record["figures"][f"image_{status}"] for status in ("ok", "missing", "broken")] == [2, 1, 1]
    assert stored["c"]["image_weight"] == stored["d"]["image_weight"] == 0
    encoder = open_encoder(lake.path("models", catalog), 1)
    title_only = encoder.embed_items(encoder.prepare_items(["black shoe"], [None])).embedding[0]
    np.testing.assert_allclose(stored["d"]["embedding"], title_only, atol=1e-5)


def test_odd_photos_and_titles_get_their_vectors_and_no_row_stops_the_night(lake, spark, run_job, promoted_model):
    photos = {kind: draw() for kind, draw in ODD_PHOTOS.items()}
    unreadable = {
        "truncated": truncated_jpeg("red"),
        "bomb": bomb(),
        "html": b"<html>404 Not Found</html>",
        "empty": b"",
    }
    titles = {
        "endless": "red dress " * 1_000,
        "one endless word": "x" * 10_000,
        "emoji": "\N{DRESS}\N{FIRE} red dress \N{HIGH-HEELED SHOE}",
        "null bytes": "red\0dress\0",
        "no word": "\N{DRESS}",
    }
    products = [(kind, "red dress", content) for kind, content in {**photos, **unreadable}.items()]
    put_items(lake, spark, *products, *((kind, title, None) for kind, title in titles.items()))
    record = run_job(job, date=DAY)
    assert (record["rows_out"], record["rows_rejected"]) == (len(products) + len(titles), 0)
    stored = vectors(lake)
    statuses = dict.fromkeys(photos, "ok") | dict.fromkeys(unreadable, "broken") | dict.fromkeys(titles, "missing")
    assert {item: row["image_status"] for item, row in stored.items()} == statuses | {"empty": "missing"}

    encoder = open_encoder(lake.path("models", promoted_model), 1)

    def vector(title: str, photo: bytes | None = None) -> np.ndarray:
        return encoder.embed_items(encoder.prepare_items([title], [photo])).embedding[0]

    as_a_person_sees_it = {
        **{kind: vector("red dress", saved(read_photo(content).image, "PNG")) for kind, content in photos.items()},
        **dict.fromkeys((*unreadable, "emoji", "null bytes"), vector("red dress")),
        "endless": vector("red dress " * 100),
        "one endless word": vector("x" * 10_000),
        "no word": vector(""),
    }
    for item, expected in as_a_person_sees_it.items():
        np.testing.assert_allclose(stored[item]["embedding"], expected, atol=1e-5, err_msg=item)


def test_only_changed_items_are_embedded_again_and_a_second_run_writes_no_version(lake, spark, run_job, catalog):
    run_job(job, date=DAY)
    before = vectors(lake)
    put_items(lake, spark, ("a", "red evening dress", jpeg("red")), ("e", "new bag", None))
    second = run_job(job, date=NEXT_DAY)
    assert second["rows_out"] == 2
    after = vectors(lake)
    assert {i for i in after if i not in before or after[i]["embedding"] != before[i]["embedding"]} == {"a", "e"}
    version = lake.version(ITEM_EMBEDDINGS)
    third = run_job(job, date=NEXT_DAY)
    assert (third["verdict"], third["rows_out"]) == ("unchanged", 0)
    assert lake.version(ITEM_EMBEDDINGS) == version


def test_inactive_items_are_not_embedded(lake, spark, run_job, catalog):
    put_items(lake, spark, ("z", "gone", None), active=False)
    run_job(job, date=DAY)
    assert "z" not in vectors(lake)


def test_a_killed_run_goes_on_from_its_staged_chunks(lake, run_job, catalog, monkeypatch):
    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(embedding, "_merge", killed)
    with pytest.raises(KeyboardInterrupt):
        run_job(job, date=DAY)
    assert staged_rows(lake, catalog) == 4
    monkeypatch.undo()
    monkeypatch.setattr(embedding, "_embed_into_staging", killed)
    record = run_job(job, date=DAY)
    assert record["rows_out"] == 4
    assert any("staged by an earlier run" in note for note in record["notes"])
    assert not lake.fs.exists(lake.path(*staging_parts(catalog)))


def poison(lake, version: str) -> None:
    """Make the model return NaN for titles that hold the word "poison", and for no other of these tests."""
    folder = lake.local_dir("models", version)
    loaded = load_model_folder(folder)
    poisoned, *harmless = (
        set(tokens.reshape(-1).tolist())
        for tokens in loaded.processor.tokenize_titles(
            ["poison", "red dress", "blue shirt", "green hat", "black shoe", "harmless"]
        )
    )
    ids = sorted(poisoned.difference(*harmless, {PADDING_ID}))
    with torch.no_grad():
        loaded.model.title_encoder.pieces.weight[ids] = float("inf")
    save_model_folder(folder, loaded.model, loaded.processor, trained_on=DAY, card="")
    load_encoder.cache_clear()


@pytest.mark.slow
def test_an_item_that_the_model_fails_on_is_recorded_and_tried_once_a_night_up_to_a_cap(lake, spark, run_job, catalog):
    poison(lake, catalog)
    put_items(lake, spark, ("p", "poison", None))
    options = {"max_attempts": 2, "max_failed_share": 0.5}
    first = run_job(job, date=DAY, **options)
    assert (first["rows_out"], first["rows_rejected"]) == (4, 1)
    assert "p" not in vectors(lake)
    assert run_job(job, date=DAY, **options)["verdict"] == "unchanged"
    second = run_job(job, date=NEXT_DAY, max_attempts=2, max_failed_share=1.0)
    assert (second["rows_out"], second["rows_rejected"]) == (0, 1)
    failure = lake.read(EMBEDDING_FAILURES).first()
    assert (failure["item_id"], failure["attempts"], failure["last_attempt"]) == ("p", 2, NEXT_DAY)
    assert run_job(job, date=NEXT_DAY + dt.timedelta(days=1), **options)["verdict"] == "unchanged"
    put_items(lake, spark, ("p", "harmless", None))
    assert run_job(job, date=NEXT_DAY + dt.timedelta(days=2), **options)["rows_out"] == 1
    assert lake.read(EMBEDDING_FAILURES).isEmpty()


def test_too_many_failures_stop_the_night_before_the_merge(lake, spark, run_job, catalog):
    poison(lake, catalog)
    put_items(lake, spark, ("p", "poison", None))
    record = run_job(job, date=DAY)
    assert record["verdict"] == "failed"
    assert "1 of 5 items cannot be embedded" in record["notes"][-1]
    assert "first: p" in record["notes"][-1]
    assert lake.read(ITEM_EMBEDDINGS).isEmpty()


def test_what_stopped_a_night_is_tried_again_once_its_cause_is_mended(lake, run_job, catalog):
    """A night that was stopped for its failures leaves them staged, beside the vectors."""
    rows = lake.read(ITEMS).where("item_id = 'a'").select("item_id", "content_hash").toPandas()
    nothing = np.zeros(1, np.float32)
    failed = ItemBatch(rows, np.zeros((1, 32), np.float32), nothing, nothing, nothing, ["ok"], ["not finite"])
    write_chunk(lake.path(*staging_parts(catalog)), [failed])
    record = run_job(job, date=DAY)
    assert (record["verdict"], record["rows_out"], record["rows_rejected"]) == ("succeeded", 4, 0)
    assert set(vectors(lake)) == set("abcd")


def test_without_a_promoted_model_the_night_is_skipped_and_says_why(run_job):
    record = run_job(job, date=DAY)
    assert record["verdict"] == "skipped"
    assert "no promoted model" in record["notes"][0]
