"""Where items leave traces: rows and old files of tables, Parquet files and pages in folders of the lake.

Every answer comes from what is on the disk, whatever tables and manifests say of it.
"""

from __future__ import annotations

import html
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from urllib.parse import unquote, urlsplit

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from jobs.core.forgotten import FORGOTTEN_ITEM, forgotten_item
from jobs.core.frames import at_once
from jobs.core.lake import Lake
from jobs.index.builds import INDEXES
from schemas import ALL_TABLES, FORGOTTEN_ITEMS, ITEM_IMAGES, ITEMS, JUDGED_RESULTS, REJECTED_ROWS
from schemas.table import Table

TRAINING_SETS_FOLDER = "training_sets"
STAGED_VECTORS = "staging/embeddings"
CHECKPOINTS = "staging/training"
REPORTS = "reports"
# Where Parquet files have a column item_id.
FOLDERS = (TRAINING_SETS_FOLDER, INDEXES, STAGED_VECTORS)

# Tables whose rows name items, and the one whose rows are their photos.  `items` is the last: its old files alone tell
# which photos an item had, so they stay until those are gone.
TABLES = (
    *(table for table in ALL_TABLES if "item_id" in table.column_names and table not in (ITEMS, FORGOTTEN_ITEMS)),
    JUDGED_RESULTS,
    REJECTED_ROWS,
    ITEM_IMAGES,
    ITEMS,
)

# A whole number that a column of floats made of itself on its way into JSON.
_FLOAT = r"^-?\d+\.0$|^-?\d\.\d+E\d+$"


@dataclass(frozen=True)
class Sought:
    """The items that are looked for.

    Args:
        ids: Their item_id.
        photos: content_sha256 of photos that no other item shows, and which of them do or did.
    """

    ids: Sequence[str]
    photos: Mapping[str, Collection[str]]

    def named_by(self, table: Table) -> Column:
        """Those of the items that a row of the table names or shows: ARRAY<STRING>."""
        if table is ITEM_IMAGES:
            shown_by = [(F.lit(photo), F.array(*map(F.lit, items))) for photo, items in self.photos.items()]
            by_photo = F.create_map(*chain.from_iterable(shown_by)).cast("map<string,array<string>>")
            return F.try_element_at(by_photo, F.col("content_sha256"))
        if table is REJECTED_ROWS:
            return F.array_compact(F.array(self._rejected_item()))
        if table is JUDGED_RESULTS:
            return F.array_intersect(F.array_union("relevant", "found"), F.array(*map(F.lit, self.ids)))
        return F.array("item_id")

    def rows_of(self, table: Table) -> Column:
        """Whether a row of the table names or shows one of them."""
        if table is ITEM_IMAGES:
            return F.col("content_sha256").isin(list(self.photos))
        if table in (REJECTED_ROWS, JUDGED_RESULTS):
            return F.size(self.named_by(table)) > 0
        return F.col("item_id").isin(list(self.ids))

    def _rejected_item(self) -> Column:
        """The item of a rejected row; null for one of which the ingest kept the id alone."""
        said = F.trim(F.get_json_object("row", "$.item_id"))
        whole = said.try_cast("double").try_cast("decimal(38,0)").cast("string")
        named = forgotten_item(
            self.ids,
            item_id=F.when(said.rlike(_FLOAT), whole).otherwise(said),
            malformed=F.when(F.col("reason") == "malformed_line", F.col("row")),
        )
        return F.when(F.col("reason") != FORGOTTEN_ITEM, named)


@dataclass(frozen=True)
class Traces:
    """What is left of items.

    Args:
        sought: The items.
        tables: Tables that have them in a file, in the order of `TABLES`.
        files: Parquet file, named from the lake's root, to those of the items that it has a row of.
        unfinished: Half-written files, into which nobody can look.
    """

    sought: Sought
    tables: Sequence[Table]
    files: Mapping[str, Collection[str]]
    unfinished: Collection[str]

    def folders(self, parent: str) -> dict[str, set[str]]:
        """Folder below the parent to those of the items that its files have rows of."""
        found = defaultdict(set)
        for name, items in self.files.items():
            if name.startswith(f"{parent}/"):
                found["/".join(name.split("/")[:2])].update(items)
        return dict(found)


def find_traces(spark: SparkSession, lake: Lake, ids: Sequence[str]) -> Traces:
    """Look for items in tables and files of rows; pages are looked into one by one."""
    sought = Sought(ids, photos_only_of(lake, ids))
    tables = [table for table in TABLES if lake.exists(table)]
    items = at_once(*(partial(items_on_disk, lake, table, sought) for table in tables))
    holding = [table for table, of_table in zip(tables, items, strict=True) if of_table]
    present = {name for folder in (*FOLDERS, CHECKPOINTS) for name in files_below(lake, folder)}
    unfinished = {name for name in present if is_unfinished(name, present)}
    rows = {name for name in present - unfinished if name.endswith(".parquet")}
    return Traces(sought, holding, items_in_files(spark, lake, rows, ids), unfinished)


def photos_only_of(lake: Lake, ids: Sequence[str]) -> dict[str, set[str]]:
    """content_sha256 of every photo that the items ever showed, as far as files tell, and no other item shows."""
    is_one = F.col("item_id").isin(list(ids))
    shown = lake.on_disk(ITEMS).where(is_one & F.col("image_sha256").isNotNull())
    photos = defaultdict(set)
    for photo, item_id in shown.select("image_sha256", "item_id").distinct().collect():
        photos[photo].add(item_id)
    others = lake.read(ITEMS).where(~is_one & F.col("image_sha256").isin(list(photos)))
    for row in others.select("image_sha256").distinct().collect():
        del photos[row["image_sha256"]]
    return dict(photos)


def items_on_disk(lake: Lake, table: Table, sought: Sought) -> set[str]:
    """Those of the items that any file of the table names, be it of a present version, an old one, or of the feed."""
    rows = lake.on_disk(table).where(sought.rows_of(table))
    return {row[0] for row in rows.select(F.explode(sought.named_by(table))).distinct().collect()}


def items_in_files(spark: SparkSession, lake: Lake, names: Iterable[str], ids: Sequence[str]) -> dict[str, set[str]]:
    """Parquet file to those of the items that it has a row of; files without such rows are absent.

    Args:
        spark: The session.
        lake: The lake.
        names: Files below the lake's root; where one has no column item_id, it names none.
        ids: The items.
    """
    # Hadoop names the same file with fewer slashes than others do, and quoted.
    by_path = {f"/{re.sub('^[^:]+://[^/]*/', '', lake.uri(name))}": name for name in names}
    found = defaultdict(set)
    if by_path:
        rows = spark.read.schema("item_id string").parquet(*map(lake.uri, by_path.values()))
        rows = rows.where(F.col("item_id").isin(list(ids))).select("_metadata.file_path", "item_id")
        for uri, item_id in rows.distinct().collect():
            found[by_path[unquote(urlsplit(uri).path)]].add(item_id)
    return dict(found)


def files_below(lake: Lake, folder: str) -> list[str]:
    """Every file of a folder, named from the lake's root; none where there is no such folder."""
    path = lake.path(folder)
    root = lake.path("")
    return sorted(file.removeprefix(root) for file in lake.fs.find(path)) if lake.fs.isdir(path) else []


def is_unfinished(name: str, present: Collection[str]) -> bool:
    """Whether a file is half-written, or of a training set, build or checkpoint that was never finished.

    Args:
        name: As `files_below` names it.
        present: All that are there.
    """
    *folders, file = name.split("/")
    if name.startswith(f"{CHECKPOINTS}/"):
        return f"{'/'.join(folders)}/state.json" not in present
    finished = f"{'/'.join(folders[:2])}/manifest.json"
    needs_manifest = len(folders) > 1 and not name.startswith(f"{STAGED_VECTORS}/")
    return file.startswith((".", "_")) or (needs_manifest and finished not in present)


def items_on_page(page: str, ids: Sequence[str]) -> set[str]:
    """Those of the items that a report shows, or quotes a rejected row of.

    Args:
        page: A page as the templates make it: a card is `<li title="item_id: title">`, a rejected row `<td><code>`.
        ids: The items.
    """
    named: set[str] = set()
    for card in re.findall(r'<li title="([^"]*)', page):
        words = html.unescape(card).split(": ")
        named.update(": ".join(words[:count]) for count in range(1, len(words)))
    for row in re.findall(r"<td><code>(.*?)</code>", page, flags=re.DOTALL):
        named.update(_quoted_items(html.unescape(row), ids))
    return named.intersection(ids)


def _quoted_items(row: str, ids: Sequence[str]) -> Iterable[str]:
    """The items that a rejected row is about; none where nothing but an id is left of it.

    A row that does not say which item is its own may be cut off or malformed: in it, every whole word counts.
    """
    said = re.search(r'"item_id": ?("(?:[^"\\]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"|-?\d+(?=[.,}]))', row)
    if said is None:
        return [one for one in ids if re.search(rf"(?<![^\W_]){re.escape(one)}(?![^\W_])", row)]
    return [] if row == f"{{{said[0]}}}" else [str(json.loads(said[1], strict=False)).strip()]
