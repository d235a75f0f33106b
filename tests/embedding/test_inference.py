"""Reading ahead changes when work is done, never what comes out; a worker keeps its model, and knows its GPU."""

import hashlib
import threading
from types import SimpleNamespace

import pandas as pd
import pytest
from pyspark import TaskContext

from jobs.embedding.inference import Seconds, embed_batches, gpu_of_task, open_encoder, tasks_for, with_photos
from schemas import ITEM_IMAGES
from tests.photos import jpeg


def embed_numbers(numbers, *, prepare=lambda number: number * 10, embed=lambda prepared: prepared + 1):
    return embed_batches(numbers, prepare=prepare, embed=embed, seconds=Seconds())


def test_batches_come_in_order_each_with_what_was_made_of_it():
    assert list(embed_numbers(range(4))) == [(0, 1), (1, 11), (2, 21), (3, 31)]
    assert list(embed_numbers([])) == []


def test_the_next_batch_is_read_and_prepared_while_the_model_runs():
    prepared = [threading.Event() for _ in range(4)]

    def prepare(number: int) -> int:
        prepared[number].set()
        return number

    def embed(number: int) -> int:
        if number + 1 < 4:
            assert prepared[number + 1].wait(timeout=5)
        return number

    assert [made for _, made in embed_numbers(range(4), prepare=prepare, embed=embed)] == [0, 1, 2, 3]


def test_an_error_while_reading_or_preparing_reaches_the_consumer():
    def broken_source():
        yield 1
        raise OSError("the source is gone")

    with pytest.raises(ZeroDivisionError):
        list(embed_numbers([1, 0], prepare=lambda number: 1 / number))
    with pytest.raises(OSError, match="the source is gone"):
        list(embed_numbers(broken_source()))


def test_seconds_are_told_by_stage():
    seconds = Seconds()
    list(embed_batches([1, 2], prepare=str, embed=int, seconds=seconds))
    taken = seconds.take()
    assert set(taken) == {"open", "read", "decode", "infer", "write"}
    assert min(taken["read"], taken["decode"], taken["infer"]) > 0
    assert set(seconds.take().values()) == {0.0}


def test_a_model_is_opened_once_a_process(model_folder):
    assert open_encoder(str(model_folder), 1) is open_encoder(str(model_folder), 1)


def test_a_task_computes_on_the_gpu_that_spark_gave_it(monkeypatch):
    assert gpu_of_task() is None
    for resources, device in (({"gpu": SimpleNamespace(addresses=["3"])}, "cuda:3"), ({}, None)):
        monkeypatch.setattr(TaskContext, "get", lambda found=resources: SimpleNamespace(resources=lambda: found))
        assert gpu_of_task() == device


@pytest.mark.parametrize(
    ("items", "slots", "tasks"),
    [
        (0, 8, 1),
        (128, 8, 1),
        (440, 8, 4),
        (1_001, 8, 8),
        (44_072, 2, 4),
        (44_072, 8, 8),
        (1_000_000, 8, 56),
        (1_000_000, 200, 200),
    ],
)
def test_a_task_has_a_batch_at_least_and_few_enough_items_to_lose(items, slots, tasks):
    assert tasks_for(items, slots=slots) == tasks


@pytest.mark.parametrize("most_broadcast", [1_000_000, 0])
def test_every_item_comes_once_with_its_photo_or_without_one(spark, lake, monkeypatch, most_broadcast):
    monkeypatch.setattr("jobs.core.frames._BROADCAST_ROWS", most_broadcast)
    red, blue = jpeg("red"), jpeg("blue")
    keys = {content: hashlib.sha256(content).hexdigest() for content in (red, blue)}
    rows = [(keys[content], content, len(content), 48, 64, "JPEG", True, None) for content in (red, blue)]
    lake.append(ITEM_IMAGES, spark.createDataFrame(rows, ITEM_IMAGES.schema))
    items = [("a", keys[red]), ("b", keys[red]), ("c", None), ("d", None), ("e", "a digest that no photo has")]
    frame = spark.createDataFrame(
        [(item, f"hash of {item}", f"title of {item}", key) for item, key in items],
        "item_id string, content_hash string, title string, image_sha256 string",
    )
    embeddable = (
        with_photos(frame, frame.count(), lake.read(ITEM_IMAGES)).toPandas().sort_values("item_id", ignore_index=True)
    )
    photos = [None if photo is None else bytes(photo) for photo in embeddable.pop("photo")]
    assert photos == [red, red, None, None, None]
    names = ["item_id", "content_hash", "title"]
    expected = pd.DataFrame([(i, f"hash of {i}", f"title of {i}") for i in "abcde"], columns=names)
    pd.testing.assert_frame_equal(embeddable, expected, check_dtype=False)


def test_large_photos_come_in_batches_of_few(spark):
    """Of 40 rows of 4 MB a batch may hold 128, and all of them would take 160 MB."""
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 128)
    rows = spark.range(40, numPartitions=1).selectExpr("CAST(repeat('x', 4000000) AS BINARY) AS photo")
    sizes = rows.mapInPandas(
        lambda batches: (pd.DataFrame({"bytes": [batch["photo"].map(len).sum()]}) for batch in batches), "bytes long"
    )
    largest = max(row["bytes"] for row in sizes.collect())
    assert 4_000_000 < largest < 72_000_000
