from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from models.make.configuration_make import preset_config
from models.make.processing_make import MakeProcessor
from models.training.data import RowReader, TrainingData, drop_modalities, split_size
from tests.models.conftest import ROW_GROUP_SIZE, training_rows, write_split


@pytest.fixture(scope="module")
def processor() -> MakeProcessor:
    return MakeProcessor.for_config(preset_config("tiny", vocab_size=2048, image_height=32, image_width=32), [])


def training_data(folder, processor, **overrides) -> TrainingData:
    settings = {"batch_size": 16, "shuffle_rows": 64, "seed": 1, "rank": 0, "world_size": 1, "decode_threads": 2}
    return TrainingData(folder / "train", processor, **{**settings, **overrides})


def rows_of(folder, processor, *, rank=0, world_size=1, seed=1):
    reader = RowReader(folder / "train", processor, seed=seed, rank=rank, world_size=world_size, decode_threads=2)
    rows = [row for group in reader for row in group]
    reader.close()
    return rows


def test_footers_count_rows_and_row_groups(training_set):
    size = split_size(training_set / "train")
    assert size.rows == len(training_rows()) == 192
    assert size.row_groups == 192 // ROW_GROUP_SIZE


def test_an_epoch_delivers_every_row_once_for_any_number_of_ranks(training_set, processor):
    expected = Counter(row["item_key"] for row in training_rows())
    for world_size in (1, 2, 3):
        shards = [rows_of(training_set, processor, rank=rank, world_size=world_size) for rank in range(world_size)]
        assert Counter(row.item_key for shard in shards for row in shard) == expected


def test_rows_read_in_every_epoch_equal_the_footers_sum(training_set, processor):
    data = training_data(training_set, processor)
    footers = sum(pq.read_metadata(path).num_rows for path in (training_set / "train").glob("*.parquet"))
    for epoch in range(3):
        batches = list(data.epoch(epoch, last=epoch == 2))
        assert data.rows_read == footers
        assert len(batches) == data.steps_per_epoch == 12
    data.close()


def test_an_epoch_trains_on_every_row_once_in_another_order_than_the_next(training_set, processor):
    data = training_data(training_set, processor)
    seen = []
    for epoch in range(2):
        seen.append(
            [tuple(ids.ravel().tolist()) for batch in data.epoch(epoch, last=epoch == 1) for ids in batch.title_ids]
        )
    data.close()
    trimmed = [Counter(tuple(np.trim_zeros(title, "b")) for title in epoch) for epoch in seen]
    assert trimmed[0] == trimmed[1]
    assert seen[0] != seen[1]


def test_the_same_seed_gives_the_same_batches(training_set, processor):
    runs = []
    for _ in range(2):
        data = training_data(training_set, processor)
        runs.append(list(data.epoch(0, last=True)))
    for first, second in zip(*runs, strict=True):
        for name, tensor in vars(first).items():
            assert torch.equal(tensor, getattr(second, name)), name


def test_every_rank_takes_the_same_number_of_steps(training_set, processor):
    """Five row groups' worth of ranks cannot share six row groups evenly."""
    steps = []
    for rank in range(5):
        data = training_data(training_set, processor, rank=rank, world_size=5)
        steps.append(len(list(data.epoch(0, last=True))))
    assert steps == [192 // (16 * 5)] * 5


def test_a_batch_larger_than_the_set_becomes_the_set(training_set, processor):
    data = training_data(training_set, processor, batch_size=100_000)
    assert [len(batch) for batch in data.epoch(0, last=True)] == [192]


def test_more_ranks_than_row_groups_is_refused_with_what_to_do(training_set, processor):
    with pytest.raises(ValueError, match="6 row groups for 7 processes: train with fewer"):
        training_data(training_set, processor, world_size=7)
    with pytest.raises(FileNotFoundError, match="expected Parquet files of a training set"):
        split_size(training_set / "nothing")


def test_missing_and_broken_photos_are_rows_without_a_photo(training_set, processor):
    by_key = {row["item_key"]: row["item_id"] for row in training_rows()}
    without = {by_key[row.item_key] for row in rows_of(training_set, processor) if not row.pixels}
    assert without == {"red-dress-0", "blue-hat-0"}
    assert all(row.photo_key == 0 for row in rows_of(training_set, processor) if not row.pixels)


def test_masks_equal_what_the_rows_say_pair_by_pair(training_set, processor):
    data = training_data(training_set, processor, batch_size=192, shuffle_rows=1)
    rows = {}
    for row in training_rows():
        tokens = processor.tokenize_queries([row["query"]])[0], processor.tokenize_titles([row["title"]])[0]
        rows[tuple(np.trim_zeros(part.ravel(), "b").tobytes() for part in tokens)] = row
    (batch,) = data.epoch(0, last=True)

    def source(place: int) -> dict:
        parts = batch.query_ids[place], batch.title_ids[place]
        return rows[tuple(np.trim_zeros(part.numpy().ravel(), "b").astype(np.int32).tobytes() for part in parts)]

    sources = [source(place) for place in range(192)]
    for i in range(0, 192, 7):
        for j in range(192):
            same = sources[i]["title_key"] == sources[j]["title_key"]
            assert batch.relevant[i, j] == (same or sources[j]["item_key"] in sources[i]["clicked_items"])
            assert batch.neighbors[i, j] == (sources[j]["item_key"] in sources[i]["neighbor_items"])


def test_a_row_of_the_catalog_asks_with_words_of_its_title_another_time_with_others(processor, tmp_path):
    rows = [{**row, "query": "", "clicked_items": [], "neighbor_items": []} for row in training_rows()[:32:2]]
    write_split(tmp_path / "train", rows, files=1)
    words_of_title = {row["item_key"]: set(row["title"].split()) for row in rows}
    epochs = []
    for seed in (1, 2):
        read = sorted(rows_of(tmp_path, processor, seed=seed), key=lambda row: row.item_key)
        epochs.append([row.query_tokens for row in read])
        for row in read:
            known = {processor.tokenize_queries([word])[0][1, 0] for word in words_of_title[row.item_key]}
            asked = np.frombuffer(row.query_tokens, np.int32).reshape(-1, processor.pieces_per_word)[1:]
            assert 1 <= len(asked) <= 4
            assert set(asked[:, 0]) <= known
    assert epochs[0] != epochs[1]
    again = sorted(rows_of(tmp_path, processor, seed=2), key=lambda row: row.item_key)
    assert [row.query_tokens for row in again] == epochs[1]


def test_withholding_modalities_never_leaves_a_product_with_nothing(training_set, processor):
    data = training_data(training_set, processor, batch_size=192)
    (batch,) = data.epoch(0, last=True)
    generator = torch.Generator().manual_seed(0)
    dropped = drop_modalities(batch, title=0.5, title_words=0.4, photo=0.5, generator=generator)
    title_left = (dropped.title_ids[:, 1:, 0] != 0).any(dim=1)
    assert (title_left | dropped.has_image).all()
    assert (dropped.title_ids[:, 0, 0] == 1).all()
    assert not (dropped.has_image & ~batch.has_image).any()
    assert 0.2 < title_left.float().mean() < 0.7
    assert 0.2 < dropped.has_image[title_left].float().mean() < 0.8
    plain = drop_modalities(batch, title=0, title_words=0, photo=0, generator=generator)
    assert torch.equal(plain.title_ids, batch.title_ids)
    assert torch.equal(plain.has_image, batch.has_image)
