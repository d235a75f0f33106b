"""Photos at their source: which there are, which of them are new, and whether they can be read.

Bytes are read only where the etag changed, and they stay where they were read: only names and digests are shuffled.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import fsspec
import pandas as pd
from fsspec.core import url_to_fs
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.core.frames import small
from jobs.core.job import JobError
from jobs.core.sources import read_source
from models.make.photo import UnreadablePhotoError, read_photo

_TABLE = "photo string, etag string, content binary"
_FACTS = (
    "photo string, etag string, content_sha256 string, content binary, bytes bigint, width int, height int, "
    "format string, readable boolean, unreadable_reason string"
)


@dataclass(frozen=True)
class PhotoFacts:
    """What a photo's bytes are.

    Args:
        width: Pixels of the upright photo; null when unreadable.
        height: Likewise.
        format: One of `FORMATS`; null when unreadable.
        unreadable_reason: empty, not_an_image, truncated, too_large or damaged; null when it decodes to the last row.
    """

    width: int | None = None
    height: int | None = None
    format: str | None = None
    unreadable_reason: str | None = None


@dataclass(frozen=True)
class PhotoSource:
    """Where photos are, one row each.

    Args:
        photos: photo (its name at the source), etag, and content or place (a path that fsspec opens).
        name_of: An image_uri of the catalog as this source names the photo; null when it cannot have it.
    """

    photos: DataFrame
    name_of: Callable[[Column], Column]

    def listing(self) -> DataFrame:
        """photo, etag and ambiguous (the source has several photos of that name; one is chosen): one row a name."""
        ambiguous = (F.min("etag") != F.max("etag")).alias("ambiguous")
        return self.photos.groupBy("photo").agg(F.max("etag").alias("etag"), ambiguous)

    def read(self, wanted: DataFrame, *, rows: int) -> DataFrame:
        """Read and decode photos.

        Args:
            wanted: photo, etag.
            rows: How many those are.

        Returns:
            photo, etag, at (the row's number) and the columns of `item_images`.  A photo that is gone by now has none.
        """
        found = self.photos.join(small(wanted, rows), on=["photo", "etag"], how="left_semi")
        if "content" in found.columns:
            read = found.mapInPandas(_examine(lambda batch: batch["content"]), _FACTS)
        else:
            tasks = max(found.sparkSession.sparkContext.defaultParallelism, rows // 1_000)
            read = found.repartition(tasks).mapInPandas(_examine(_open_files), _FACTS)
        return read.withColumn("at", F.monotonically_increasing_id())


def open_source(spark: SparkSession, path: str | None) -> PhotoSource:
    """The photos at `path`: a Parquet or Delta table of image_uri, content and perhaps etag, or a folder of files.

    Without an etag column, a table's bytes are digested to see which changed.  A file's etag is its length and
    modification time; image_uri is its path relative to the folder, or one that leads into the folder.

    Args:
        spark: The session.
        path: None for a catalog without photos.

    Raises:
        JobError: Nothing is at `path`.
        SourceError: The table lacks image_uri or content.
    """
    if path is None:
        return PhotoSource(spark.createDataFrame([], _TABLE), name_of=lambda _: F.lit(None).cast("string"))
    fs, place = url_to_fs(path)
    if not fs.exists(place):
        raise JobError(f"{path}: nothing is there; expected a table of photos or a folder of files (MAKE_IMAGES)")
    return _open_table(spark, path) if _is_table(fs, place) else _open_folder(spark, path, place.rstrip("/"))


def _open_table(spark: SparkSession, path: str) -> PhotoSource:
    table = read_source(spark, path, required=("image_uri", "content"), optional=("etag",))
    etag = F.coalesce(F.col("etag").cast("string"), F.sha2("content", 256))
    photos = table.select(F.col("image_uri").cast("string").alias("photo"), etag.alias("etag"), "content")
    complete = F.col("photo").isNotNull() & F.col("content").isNotNull()
    return PhotoSource(photos.where(complete), name_of=lambda image_uri: image_uri)


def _open_folder(spark: SparkSession, path: str, place: str) -> PhotoSource:
    def below(uri: Column) -> Column:
        return F.substr(uri, F.instr(uri, F.lit(f"{place}/")) + F.lit(len(place) + 1))

    def name_of(image_uri: Column) -> Column:
        at = F.instr(image_uri, F.lit(f"{place}/"))
        leads_into = (at == 1) | ((at > 1) & image_uri.rlike("^[a-z0-9]+:/"))
        return F.when(leads_into, below(image_uri)).otherwise(F.regexp_replace(image_uri, r"^(\./|/)+", ""))

    # Without content Spark only asks for each file's status; files that go meanwhile are no longer there to be listed.
    files = spark.read.format("binaryFile").load(path, recursiveFileLookup=True, ignoreMissingFiles=True)
    photos = files.select(
        below(F.col("path")).alias("photo"),
        F.concat_ws("-", "length", F.unix_micros("modificationTime")).alias("etag"),
        F.col("path").alias("place"),
    )
    return PhotoSource(photos, name_of=name_of)


def new_images(read: DataFrame, item_images: DataFrame, *, rows: int) -> DataFrame:
    """The rows of `item_images` for contents that it lacks, once each.

    Which of several photos with equal bytes brings them is decided among digests; the bytes stay put.

    Args:
        read: What `PhotoSource.read` gives, persisted.
        item_images: The table as it is.
        rows: How many photos were read.
    """
    first = read.groupBy("content_sha256").agg(F.min("at").alias("at"))
    first = first.join(item_images.select("content_sha256"), on="content_sha256", how="left_anti")
    return read.join(small(first.select("at"), rows), on="at", how="left_semi").drop("photo", "etag", "at")


def facts_of(content: bytes) -> PhotoFacts:
    """Decode a photo to its last row of pixels; whatever the bytes are, the answer is a fact and never an exception."""
    try:
        with warnings.catch_warnings(action="ignore"):
            photo = read_photo(content)
    except UnreadablePhotoError as error:
        return PhotoFacts(unreadable_reason=str(error))
    return PhotoFacts(*photo.image.size, photo.format)


def _examine(
    contents: Callable[[pd.DataFrame], pd.Series],
) -> Callable[[Iterator[pd.DataFrame]], Iterator[pd.DataFrame]]:
    def examine(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            rows = [
                _row(photo, etag, content)
                for photo, etag, content in zip(batch["photo"], batch["etag"], contents(batch), strict=True)
                if content is not None
            ]
            yield pd.DataFrame(rows, columns=[field.split()[0] for field in _FACTS.split(", ")])

    return examine


def _row(photo: str, etag: str, content: bytes) -> tuple:
    facts, sha256 = facts_of(content), hashlib.sha256(content).hexdigest()
    readable = facts.unreadable_reason is None
    size = (facts.width, facts.height, facts.format)
    return (photo, etag, sha256, content, len(content), *size, readable, facts.unreadable_reason)


def _open_files(batch: pd.DataFrame) -> pd.Series:
    return batch["place"].map(_read_file)


def _read_file(place: str) -> bytes | None:
    try:
        with fsspec.open(place, "rb") as file:
            return file.read()
    except FileNotFoundError:  # listed a moment ago
        return None


def _is_table(fs: fsspec.AbstractFileSystem, place: str) -> bool:
    if fs.isfile(place):
        return place.endswith(".parquet")
    if fs.isdir(f"{place}/_delta_log"):
        return True
    for _, _, files in fs.walk(place):
        visible = [name for name in files if not name.startswith(("_", "."))]
        if visible:
            return visible[0].endswith(".parquet")
    return False
