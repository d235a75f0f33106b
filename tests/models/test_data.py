from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from upath import UPath

from models.make.configuration_make import preset_config
from models.make.objectives import QueryKind
from models.make.processing_make import MakeProcessor
from models.training.data import TrainingData, split_size
from models.training.prepared import PreparedInputs
from models.training.reader import AddedQueries, RowReader
from tests.models.conftest import ROW_GROUP_SIZE, training_rows, write_split
from tests.photos import jpeg, truncated_jpeg

LOG_ONLY = AddedQueries(pseudo=0, typos=0.0, similar=False)


@pytest.fixture(scope="module")
def processor() -> MakeProcessor:
    return MakeProcessor.for_config(preset_config("tiny", vocab_size=2048, image_height=32, image_width=32), [])


def training_data(folder, processor, **overrides) -> TrainingData:
    settings = {"added": LOG_ONLY, "batch_size": 16, "shuffle_rows": 32, "group_rows": 4, "seed": 1}
    settings |= {"rank": 0, "world_size": 1, "decode_threads": 2, "cache_bytes": 1 << 20}
    return TrainingData(folder / "train", processor, **{**settings, **overrides})


def rows_of(folder, processor, *, added=LOG_ONLY, rank=0, world_size=1, seed=1):
    shard = {"rank": rank, "world_size": world_size}
    prepared = PreparedInputs(processor, max_bytes=1 << 20)
    reader = RowReader(
        folder / "train", processor, added=added, prepared=prepared, seed=seed, decode_threads=2, **shard
    )
    rows = [row for group in reader for row in group]
    reader.close()
    return rows


def test_footers_count_rows_and_row_groups(training_set):
    size = split_size(training_set / "train")
    assert size.rows == len(training_rows()) == 96
    assert size.row_groups == 96 // ROW_GROUP_SIZE


def test_an_epoch_delivers_every_row_once_for_any_number_of_ranks(training_set, processor):
    expected = Counter(row["item_key"] for row in training_rows())
    for world_size in (1, 2, 3):
        shards = [rows_of(training_set, processor, rank=rank, world_size=world_size) for rank in range(world_size)]
        assert Counter(row.item_key for shard in shards for row in shard) == expected


def test_a_set_in_a_store_is_read_as_one_on_a_disk(training_set, processor):
    store = UPath("memory://sets/tiny")
    store.fs.put(str(training_set), store.path, recursive=True)
    assert split_size(store / "train") == split_size(training_set / "train")
    assert rows_of(store, processor) == rows_of(training_set, processor)


def test_rows_read_in_every_epoch_equal_the_footers_sum(training_set, processor):
    data = training_data(training_set, processor)
    footers = sum(pq.read_metadata(path).num_rows for path in (training_set / "train").glob("*.parquet"))
    for epoch in range(3):
        batches = list(data.epoch(epoch, last=epoch == 2))
        assert data.rows_read == footers
        assert len(batches) == data.steps_per_epoch == 6
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
        for name, value in vars(first).items():
            torch.testing.assert_close(value, getattr(second, name), rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("batch_size", [7, 16, 20, 64])
@pytest.mark.parametrize("world_size", [1, 2, 4, 5])
def test_every_rank_takes_as_many_steps_and_together_they_train_on_every_row_once(
    training_set, processor, world_size, batch_size
):
    """Six row groups do not go evenly into four or five ranks, nor 96 rows into batches of seven or twenty."""
    ranks = []
    for rank in range(world_size):
        data = training_data(training_set, processor, rank=rank, world_size=world_size, batch_size=batch_size)
        ranks.append([batch.items.item_keys.tolist() for batch in data.epoch(0, last=True)])
    assert {len(batches) for batches in ranks} == {-(-96 // (batch_size * world_size))}
    trained = Counter(key for batches in ranks for batch in batches for key in batch)
    assert trained == Counter(row["item_key"] for row in training_rows())


def test_the_last_batches_of_an_epoch_are_equally_large(training_set, processor):
    data = training_data(training_set, processor, batch_size=20)
    assert [len(batch) for batch in data.epoch(0, last=True)] == [20, 20, 20, 18, 18]


def test_a_shard_of_a_single_row_repeats_it_in_every_step(processor, tmp_path):
    write_split(tmp_path / "train", training_rows()[:33])
    data = training_data(tmp_path, processor, rank=2, world_size=3, batch_size=4)
    batches = [batch.items.item_keys.tolist() for batch in data.epoch(0, last=True)]
    assert batches == [batches[0]] * 3
    assert len(set(batches[0])) == 1
    assert len(batches[0]) == 2


def test_a_batch_larger_than_the_set_becomes_the_set(training_set, processor):
    data = training_data(training_set, processor, batch_size=100_000)
    assert [len(batch) for batch in data.epoch(0, last=True)] == [96]


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


def decoded(tokens: np.ndarray) -> tuple[int, ...]:
    """The ids of a text's whole words, by which tests tell texts apart."""
    return tuple(tokens[..., 0][1:][tokens[..., 0][1:] != 0].tolist())


def test_batches_are_the_same_whether_their_photos_and_tokens_are_kept_or_prepared_again(training_set, processor):
    epochs = []
    for cache_bytes in (0, 20_000, 1 << 20):
        data = training_data(training_set, processor, cache_bytes=cache_bytes)
        batches = [batch for epoch in range(2) for batch in data.epoch(epoch, last=epoch == 1)]
        epochs.append([tensor for batch in batches for tensor in (batch.pixels, batch.query_ids, batch.title_ids)])
    for again in epochs[1:]:
        assert all(torch.equal(first, other) for first, other in zip(epochs[0], again, strict=True))


def test_a_photo_is_decoded_once_while_there_is_room(processor, monkeypatch):
    decoded = []
    decode = MakeProcessor.decode_photos
    monkeypatch.setattr(
        MakeProcessor, "decode_photos", lambda self, photos, pool: decoded.extend(photos) or decode(self, photos, pool)
    )
    contents = [jpeg("red"), truncated_jpeg("red"), jpeg("blue"), b""]
    prepared = PreparedInputs(processor, max_bytes=32 * 32 * 3)
    with ThreadPoolExecutor(1) as pool:
        first, second = (prepared.photos(contents, [1, 2, 3, 0], pool) for _ in range(2))
    assert [photo is None for photo in first] == [photo is None for photo in second] == [False, True, False, True]
    assert decoded == [*contents[:3], contents[2]], "there was room for one; a broken one needs none"


def test_masks_equal_what_the_rows_say_pair_by_pair(training_set, processor):
    data = training_data(training_set, processor, batch_size=96, shuffle_rows=1)
    (batch,) = data.epoch(0, last=True)
    row_of = {decoded(processor.tokenize_titles([row["title"]])[0]): row for row in training_rows()}
    products = [row_of[decoded(title.numpy())] for title in batch.title_ids]
    queries = [row_of[decoded(batch.title_ids[item].numpy())] for item in batch.item_of]
    assert len(queries) == 2 * 96
    of_place = [queries[: place + 1].count(row) - 1 for place, row in enumerate(queries)]
    for i in range(0, 192, 7):
        row, place = queries[i], of_place[i]
        assert decoded(batch.query_ids[i].numpy()) == decoded(processor.tokenize_queries([row["queries"][place]])[0])
        neighbors = row["neighbor_items"] if place == 0 else []
        for j, product in enumerate(products):
            same = row["title_key"] == product["title_key"]
            assert batch.masks.relevant[i, j] == (same or product["item_key"] in row["clicked_items"])
            assert batch.masks.neighbors[i, j] == (product["item_key"] in neighbors)


def test_a_similar_query_is_a_query_of_the_product_with_both_queries_products_as_relevant(training_set, processor):
    data = training_data(training_set, processor, batch_size=96, added=AddedQueries(pseudo=0, typos=0.0, similar=True))
    (batch,) = data.epoch(0, last=True)
    similar = batch.kinds == QueryKind.SIMILAR
    assert similar.sum() == 96, "the second query of every product has no neighbour"
    first = similar.roll(-1)
    assert torch.equal(batch.item_of[similar], batch.item_of[first])
    assert torch.equal(batch.masks.relevant[similar], batch.masks.relevant[first] | batch.masks.neighbors[first])
    assert not batch.masks.neighbors[similar].any()


def test_a_product_is_asked_for_in_its_own_words_another_time_in_others(training_set, processor):
    words = {row["item_key"]: " ".join([row["title"], *row["queries"]]).split() for row in training_rows()}
    titles = {row["item_key"]: row["title"] for row in training_rows()}
    epochs = []
    for seed in (1, 2):
        read = rows_of(training_set, processor, seed=seed, added=AddedQueries(pseudo=2, typos=0.0, similar=False))
        made = {}
        for row in read:
            kinds, counts = np.frombuffer(row.query_kinds, np.int64), np.frombuffer(row.query_counts, np.int32)
            assert kinds[:2].tolist() == [QueryKind.CLICKED] * 2
            tokens = np.frombuffer(row.query_tokens, np.int32).reshape(-1, processor.pieces_per_word)
            texts = [decoded(part) for part in np.split(tokens, np.cumsum(counts))[2:4]]
            known = {decoded(processor.tokenize_queries([word])[0])[0] for word in words[row.item_key]}
            of_title = set(decoded(processor.tokenize_titles([titles[row.item_key]])[0]))
            for text, kind in zip(texts, kinds[2:], strict=True):
                assert 1 <= len(text) <= 4
                assert set(text) <= known
                assert kind == (QueryKind.OF_TITLE if set(text) <= of_title else QueryKind.OF_CLICKS)
            made[row.item_key] = texts
        epochs.append(made)
    assert epochs[0] != epochs[1]


def test_only_a_product_that_the_log_never_led_to_loses_words(processor, tmp_path):
    silent = {name: [] for name in training_rows()[0] if name.endswith(("queries", "items", "counts"))}
    rows = [{**row, **(silent if place % 2 else {})} for place, row in enumerate(training_rows())]
    write_split(tmp_path / "train", rows)
    data = training_data(tmp_path, processor, batch_size=96, added=AddedQueries(pseudo=1, typos=0.0, similar=False))
    (batch,) = data.epoch(0, last=True)
    made = (batch.kinds == QueryKind.OF_TITLE) | (batch.kinds == QueryKind.OF_CLICKS)
    read = [set(decoded(title.numpy())) for title in batch.title_ids]
    title_of = {row["item_key"]: row["title"] for row in rows}
    whole = [set(decoded(processor.tokenize_titles([title_of[key]])[0])) for key in batch.items.item_keys.tolist()]
    lost = np.array([read[item] < whole[item] for item in batch.item_of[made]])
    by_log = np.isin(batch.item_of[made], batch.item_of[~made])
    assert by_log.sum() == 48
    assert (batch.items.log_queries >= 2).sum() == (batch.items.log_queries > 0).sum() == 48
    assert torch.equal(batch.masks.occurrences == 0, batch.queries.of_log[:, None] & (batch.items.log_queries == 0))
    assert not lost[by_log].any()
    assert 0.3 < lost[~by_log].mean() < 0.7
