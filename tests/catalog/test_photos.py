"""Photos at their source: what changed is told without reading bytes twice, and no bytes crash a decoder."""

import io
import random

import pytest
from PIL import Image
from pyspark.sql import functions as F

from jobs.catalog.photos import facts_of, new_images, open_source
from jobs.core.job import JobError
from jobs.core.sources import SourceError
from models.make.photo import FORMATS
from schemas import ITEM_IMAGES


def picture(shade: int = 0, kind: str = "JPEG", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").point(lambda v: min(255, v + shade)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_whole_photo_tells_its_size_and_format(kind):
    facts = facts_of(picture(kind=kind))
    assert (facts.width, facts.height, facts.format, facts.unreadable_reason) == (40, 30, kind, None)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_truncated_photo_is_unreadable(kind):
    content = picture(kind=kind, size=(200, 200))
    assert facts_of(content[: len(content) // 2]).unreadable_reason == "truncated"


def test_bytes_that_are_no_photo_are_unreadable():
    assert facts_of(b"").unreadable_reason == "empty"
    assert facts_of(b"<html>404 Not Found</html>").unreadable_reason == "not_an_image"
    assert facts_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n").unreadable_reason == "not_an_image"


def test_a_small_file_that_would_unpack_to_gigabytes_is_not_unpacked():
    buffer = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 20_000
    assert facts_of(buffer.getvalue()).unreadable_reason == "too_large"


def test_damaged_bytes_are_a_fact_and_never_an_exception():
    dice = random.Random(0)
    for kind in FORMATS:
        content = picture(kind=kind)
        for _ in range(30):
            damaged = bytearray(content)
            for _ in range(8):
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
            facts = facts_of(bytes(damaged))
            assert (facts.unreadable_reason is None) == (facts.format is not None)


def read_all(source):
    return source.read(source.listing().select("photo", "etag"), rows=1)


@pytest.fixture(params=["folder", "parquet", "delta", "parquet with etags"])
def store(spark, tmp_path, request):
    """A function that makes `{name: bytes}` the whole photo store, in each of its forms, and gives its path."""
    place = tmp_path / "photos"

    def put(contents):
        if request.param == "folder":
            for name, content in contents.items():
                file = place / name
                file.parent.mkdir(parents=True, exist_ok=True)
                if not file.exists() or file.read_bytes() != content:
                    file.write_bytes(content)
            return str(place)
        rows, columns = list(contents.items()), "image_uri string, content binary"
        if request.param.endswith("etags"):
            rows, columns = [(*row, f"v{hash(row[1])}") for row in rows], f"{columns}, etag string"
        kind = "delta" if request.param == "delta" else "parquet"
        spark.createDataFrame(rows, columns).write.format(kind).mode("overwrite").save(str(place))
        return str(place)

    return put


def test_every_kind_of_store_gives_the_same_photos(spark, store):
    name, odd_name = "a/1.jpg", "a/zwei & 2%20ü.png"
    contents = {name: picture(), odd_name: picture(9, "PNG"), "b/broken.jpg": b"no"}
    read = {row.photo: row for row in read_all(open_source(spark, store(contents))).collect()}
    assert {photo: bytes(row.content) for photo, row in read.items()} == contents
    assert (read[odd_name].format, read[odd_name].bytes) == ("PNG", len(contents[odd_name]))
    assert (read["b/broken.jpg"].readable, read["b/broken.jpg"].unreadable_reason) == (False, "not_an_image")


def test_the_etag_changes_with_the_bytes_and_only_then(spark, store):
    old, new = picture(), picture(60)

    def etags(contents):
        return {row.photo: row.etag for row in open_source(spark, store(contents)).listing().collect()}

    first, second = etags({"1.jpg": old, "2.jpg": old}), etags({"1.jpg": old, "2.jpg": new})
    assert first["1.jpg"] == second["1.jpg"]
    assert first["2.jpg"] != second["2.jpg"]


def test_a_file_that_went_after_it_was_listed_has_no_row(spark, tmp_path):
    for name in ("stays.jpg", "goes.jpg"):
        (tmp_path / name).write_bytes(picture())
    source = open_source(spark, str(tmp_path))
    (tmp_path / "goes.jpg").unlink()
    assert [row.photo for row in source.read(source.listing().select("photo", "etag"), rows=2).collect()] == [
        "stays.jpg"
    ]


def test_an_image_uri_names_a_file_by_its_path_in_the_folder_or_into_it(spark, tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture())
    source = open_source(spark, str(tmp_path))
    uris = ["a.jpg", "./a.jpg", "/a.jpg", f"{tmp_path}/a.jpg", f"file://{tmp_path}/a.jpg", "other/a.jpg", None]
    names = spark.createDataFrame([(uri,) for uri in uris], "uri string").select(source.name_of(F.col("uri")))
    assert [row[0] for row in names.collect()] == ["a.jpg"] * 5 + ["other/a.jpg", None]


def test_equal_bytes_become_one_image_and_known_ones_none(spark, tmp_path):
    shared, alone, known = picture(), picture(5), picture(50)
    rows = [("1.jpg", shared), ("2.jpg", shared), ("2.jpg", shared), ("3.jpg", alone), ("4.jpg", known)]
    spark.createDataFrame(rows, "image_uri string, content binary").write.parquet(str(tmp_path / "photos"))
    read = read_all(open_source(spark, str(tmp_path / "photos"))).persist()
    have = read.where("photo = '4.jpg'").select("content_sha256")
    images = new_images(read, have, rows=5)
    assert sorted(images.columns) == sorted(ITEM_IMAGES.column_names)
    assert sorted(bytes(row.content) for row in images.collect()) == sorted([shared, alone])


def test_a_store_that_is_not_there_or_lacks_its_columns_is_named(spark, tmp_path):
    with pytest.raises(JobError, match="nothing is there; expected a table of photos or a folder"):
        open_source(spark, str(tmp_path / "nowhere"))
    spark.range(1).write.parquet(str(tmp_path / "photos"))
    with pytest.raises(SourceError, match=r"lacks \['image_uri', 'content'\]"):
        open_source(spark, str(tmp_path / "photos"))
