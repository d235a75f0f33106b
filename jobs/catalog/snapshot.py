"""A snapshot of the catalog as it came, row by row: accepted, or refused with a reason."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, BooleanType, DoubleType, FloatType, MapType, StructType

from jobs.core.forgotten import FORGOTTEN_ITEM, forgotten_item
from jobs.core.job import JobError
from jobs.core.sources import MALFORMED, identifier_of, read_source

REQUIRED = ("item_id", "title")
OPTIONAL = ("category", "price", "in_stock", "image_uri", "updated_at")

# Java's \s knows only ASCII; sellers pad titles with full-width and no-break spaces too.
_SPACE_AROUND = r"(?U)^\s+|\s+$"


def read_snapshot(spark: SparkSession, path: str) -> DataFrame:
    """The snapshot's rows with the types that the source gives them.

    Raises:
        SourceError: The source cannot be read, or lacks a required column.
        JobError: Its item_id is not of a scalar type.
    """
    snapshot = read_source(spark, path, required=REQUIRED, optional=OPTIONAL)
    kind = snapshot.schema["item_id"].dataType
    if isinstance(kind, ArrayType | MapType | StructType):
        raise JobError(f"{path}: item_id is {kind.simpleString()}; expected a scalar: a string or a number, say")
    return snapshot


def check_rows(snapshot: DataFrame) -> DataFrame:
    """Every row of the snapshot, cleaned, with the reason for which it is refused.

    Of several rows with one item_id the newest by `updated_at` is kept, the others are refused; which one that is does
    not depend on their order.

    Args:
        snapshot: What `read_snapshot` gives.

    Returns:
        item_id, title, category, image_uri (STRING), price (DOUBLE), in_stock (BOOLEAN), reason (STRING, null:
        accepted), flags (ARRAY<STRING>: what is amiss with an accepted row) and row (STRING, JSON: the row as it came).
    """
    cleaned = snapshot.select(
        _identifier(snapshot).alias("item_id"),
        F.coalesce(_trimmed("title"), F.lit("")).alias("title"),
        _trimmed("category").alias("category"),
        _price().alias("price"),
        _in_stock().alias("in_stock"),
        F.nullif(_trimmed("image_uri"), F.lit("")).alias("image_uri"),
        F.array_compact(
            F.array(
                F.when(F.col("price").isNotNull() & _price().isNull(), "price_not_a_number"),
                F.when(F.col("in_stock").isNotNull() & _in_stock().isNull(), "in_stock_not_boolean"),
            )
        ).alias("flags"),
        F.when(F.col(MALFORMED).isNotNull(), "malformed_line")
        .when(F.col("item_id").isNull() | (F.trim(F.col("item_id").cast("string")) == ""), "null_item_id")
        .when(_identifier(snapshot).isNull(), "item_id_not_text")
        .when(F.coalesce(_trimmed("title"), F.lit("")) == "", "empty_title")
        .alias("fault"),
        F.coalesce(F.col(MALFORMED), F.to_json(F.struct(*REQUIRED, *OPTIONAL))).alias("row"),
        "updated_at",
    )
    # Refused rows are spread by their text: thousands of null ids must not meet in one task.
    same_item = Window.partitionBy("fault", F.when(F.col("fault").isNull(), F.col("item_id")).otherwise(F.col("row")))
    newest_first = same_item.orderBy(F.col("updated_at").desc_nulls_last(), F.col("row").desc())
    is_duplicate = F.col("fault").isNull() & (F.row_number().over(newest_first) > 1)
    reason = F.when(is_duplicate, "duplicate_item_id").otherwise(F.col("fault"))
    return cleaned.withColumn("reason", reason).drop("fault", "updated_at")


def refuse_forgotten(rows: DataFrame, forgotten: Sequence[str]) -> DataFrame:
    """`rows`, with those that name a forgotten item refused; nothing is kept of them but its id.

    Args:
        rows: What `check_rows` gives.
        forgotten: item_id of every item that was taken down.
    """
    malformed = F.when(F.col("reason") == "malformed_line", F.col("row"))
    named = forgotten_item(forgotten, item_id=F.col("item_id"), malformed=malformed)
    redacted = F.to_json(F.struct(named.alias("item_id")))
    return rows.withColumns(
        {
            "reason": F.when(named.isNotNull(), FORGOTTEN_ITEM).otherwise(F.col("reason")),
            "row": F.when(named.isNotNull(), redacted).otherwise(F.col("row")),
        }
    )


def _identifier(snapshot: DataFrame) -> Column:
    """item_id as text; null when it is none: NaN, infinity, bytes that are not UTF-8."""
    kind = snapshot.schema["item_id"].dataType
    if isinstance(kind, BinaryType):
        return F.nullif(F.trim(F.try_validate_utf8(F.col("item_id").cast("string"))), F.lit(""))
    identifier = identifier_of("item_id", kind)
    if isinstance(kind, DoubleType | FloatType):
        return F.when(F.abs(F.col("item_id")) < float("inf"), identifier)
    return identifier


def _trimmed(name: str) -> Column:
    return F.regexp_replace(F.col(name).cast("string"), _SPACE_AROUND, "")


def _price() -> Column:
    price = F.col("price").cast("string").try_cast(DoubleType())
    return F.when(F.abs(price) < float("inf"), price)  # NaN is larger than infinity in Spark


def _in_stock() -> Column:
    """Spark's own reading of a text as BOOLEAN: true, yes, 1 and so on, in any case."""
    text = F.col("in_stock").cast("string")
    # pandas makes 1.0 of a 1 when another row of the column has none.
    number = text.try_cast(DoubleType())
    return F.coalesce(text.try_cast(BooleanType()), F.when(number.isin(0.0, 1.0), number == 1.0))
