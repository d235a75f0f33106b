"""Items that were taken down: ingests refuse whatever names one, and keep nothing of it but the item's id."""

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.core.lake import Lake
from schemas import FORGOTTEN_ITEMS

# Why `rejected_rows` has such a row.
FORGOTTEN_ITEM = "forgotten_item"

_LETTER_OR_DIGIT = r"[\p{L}\p{N}]"


def forgotten_ids(lake: Lake) -> list[str]:
    """item_id of every item that was taken down, in order."""
    return sorted(row["item_id"] for row in lake.read(FORGOTTEN_ITEMS).select("item_id").collect())


def forgotten_item(ids: Sequence[str], *, item_id: Column, malformed: Column) -> Column:
    """Which of these items a row is about; null when it is about none of them.

    Args:
        ids: Items that were taken down.
        item_id: The row's own.
        malformed: The text of a line that cannot be read, and may name an item anywhere; null for one that can.
    """
    if not ids:
        return F.lit(None).cast("string")
    in_text = F.filter(F.array(*map(F.lit, ids)), lambda one: F.regexp_like(malformed, _whole_word(one)))
    return F.when(item_id.isin(ids), item_id).when(malformed.isNotNull(), F.get(in_text, F.lit(0)))


def _whole_word(text: Column) -> Column:
    """A regular expression that finds the text where no letter or digit precedes or follows it."""
    verbatim = F.replace(text, F.lit(r"\E"), F.lit(r"\E\\E\Q"))
    return F.concat(F.lit(rf"(?<!{_LETTER_OR_DIGIT})\Q"), verbatim, F.lit(rf"\E(?!{_LETTER_OR_DIGIT})"))
