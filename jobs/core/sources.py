"""Read what people bring: Parquet, CSV, JSON lines or Delta, with the format told by the path itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from fsspec.core import url_to_fs
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    DataType,
    FractionalType,
    IntegralType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from jobs.core.job import JobError

_FORMATS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json"}
_COMPRESSIONS = {".gz", ".bz2", ".zst"}

# The column that holds the text of a line that is not valid JSON; null for a line that is.
MALFORMED = "_malformed"


class SourceError(JobError):
    """A source cannot be read; the message says what was expected, what came, and what to do."""


def read_source(spark: SparkSession, path: str, *, required: Sequence[str], optional: Sequence[str] = ()) -> DataFrame:
    """The named columns of a source, in one pass over it and with the types that it has.

    Args:
        spark: The session.
        path: A file, a folder of files or a Delta table, local or a URI.
        required: Columns that must be there.
        optional: Columns that become null where the source lacks them.

    Returns:
        `required`, `optional` and `_malformed`.  CSV and JSON lines give strings only, so that a value of the wrong
        type costs its own row and not the run; `_malformed` is the text of a line that could not be parsed, else null.

    Raises:
        SourceError: Nothing is at `path`, its format is not known, or a required column is missing.
    """
    kind = source_format(path)
    location = _spark_path(path)
    if kind == "json":
        fields = [StructField(name, StringType()) for name in (*required, *optional, MALFORMED)]
        rows = spark.read.json(
            location, schema=StructType(fields), mode="PERMISSIVE", columnNameOfCorruptRecord=MALFORMED
        )
        return rows.select(*required, *optional, MALFORMED)
    if kind == "csv":
        header = spark.read.csv(location, header=True, escape='"').schema
        # Told of that column, and to look at whole lines, Spark keeps those of too few or too many cells.
        rows = spark.read.option("columnPruning", False).csv(
            location,
            schema=header.add(MALFORMED, StringType()),
            header=True,
            escape='"',
            mode="PERMISSIVE",
            columnNameOfCorruptRecord=MALFORMED,
        )
    else:
        rows = spark.read.format(kind).load(location)
    missing = [name for name in required if name not in rows.columns]
    if missing:
        raise SourceError(f"{path}: expected columns {list(required)}, lacks {missing}, has {rows.columns}")
    return rows.select(
        *required,
        *(F.col(name) if name in rows.columns else F.lit(None).cast("string").alias(name) for name in optional),
        F.col(MALFORMED) if MALFORMED in rows.columns else F.lit(None).cast("string").alias(MALFORMED),
    )


def source_format(path: str) -> str:
    """Spark's name of the source's format: delta, parquet, csv or json.

    Raises:
        SourceError: Nothing is at `path`, or neither it nor a file in it has a known ending.
    """
    fs, place = url_to_fs(path)
    if not fs.exists(place):
        raise SourceError(f"{path}: nothing is there; expected a file, a folder of files or a Delta table")
    if not fs.isdir(place):
        files = [place]
    elif fs.isdir(f"{place}/_delta_log"):
        return "delta"
    else:
        files = [file for file in fs.find(place) if not PurePosixPath(file).name.startswith(("_", "."))]
    kinds = {_FORMATS.get(_ending(file)) for file in files}
    if len(kinds) != 1 or None in kinds:
        endings = sorted({_ending(file) or "none" for file in files})
        raise SourceError(
            f"{path}: expected files of one format out of {sorted(_FORMATS)} or a Delta table, got {endings}"
        )
    return kinds.pop()


def timestamp_of(name: str, kind: DataType) -> Column:
    """A column of any type as a UTC timestamp; null where it cannot be one.

    Whole numbers count seconds, milli-, micro- or nanoseconds since 1970, told apart by their size (each unit covers
    the years 1973 to 5138); nanoseconds are what Parquet files of pandas hold.
    """
    column = F.col(name)
    if not isinstance(kind, IntegralType):
        return column.try_cast(TimestampType())
    size = F.abs(column.cast("decimal(20,0)"))
    microseconds = (
        F.when(size >= F.lit(10**17), F.floor(column / 1_000))
        .when(size >= F.lit(10**14), column)
        .when(size >= F.lit(10**11), column * 1_000)
        .otherwise(column * 1_000_000)
    )
    return F.timestamp_micros(microseconds.cast("bigint"))


def identifier_of(name: str, kind: DataType) -> Column:
    """A column of any scalar type as an identifier: a trimmed STRING, null when empty.

    A whole number that pandas turned into a float (a column with one null is enough) reads as the whole number.
    """
    text = F.trim(F.col(name).cast("string"))
    if isinstance(kind, FractionalType):
        whole = F.col(name) == F.floor(F.col(name))
        text = F.when(whole, F.col(name).cast("decimal(38,0)").cast("string")).otherwise(text)
    return F.when(text != "", text)


def _ending(file: str) -> str:
    path = PurePosixPath(file)
    return PurePosixPath(path.stem).suffix.lower() if path.suffix.lower() in _COMPRESSIONS else path.suffix.lower()


def _spark_path(path: str) -> str:
    fs, place = url_to_fs(path)
    return f"file://{place}" if fs.protocol in ("file", ("file", "local")) else path
