"""A tiny training set in which the photo says what the title leaves out: the colour."""

import itertools
import json
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.photos import jpeg, truncated_jpeg

COLOURS = ("red", "green", "blue", "black", "white", "yellow", "purple", "orange")
GARMENTS = ("dress", "shirt", "shoes", "hat")
MODELS_PER_GARMENT = 3
ROW_GROUP_SIZE = 32
COLUMNS = pa.schema(
    [
        ("query", pa.string()),
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("photo", pa.binary()),
        ("weight", pa.float32()),
        ("query_key", pa.int64()),
        ("item_key", pa.int64()),
        ("title_key", pa.int64()),
        ("photo_key", pa.int64()),
        ("clicked_items", pa.list_(pa.int64())),
        ("neighbor_items", pa.list_(pa.int64())),
        ("similar_query", pa.string()),
    ]
)


def key(text: str) -> int:
    return zlib.crc32(text.encode()) + 1


def catalog() -> list[dict]:
    """Every colour of every garment's models; a title names the colour in one model of three, one photo is broken."""
    items = []
    for colour, garment, number in itertools.product(COLOURS, GARMENTS, range(MODELS_PER_GARMENT)):
        item_id = f"{colour}-{garment}-{number}"
        title = f"{colour} {garment} model{number}" if number == 0 else f"{garment} model{number} {key(item_id) % 97}"
        photo = {"red-dress-0": truncated_jpeg("red"), "blue-hat-0": b""}.get(item_id, jpeg(colour))
        items.append({"item_id": item_id, "title": title, "photo": photo, "item_key": key(item_id)})
    return items


def training_rows() -> list[dict]:
    rows = []
    for item in catalog():
        colour, garment, _ = item["item_id"].split("-")
        siblings = [key(f"{colour}-{garment}-{number}") for number in range(MODELS_PER_GARMENT)]
        for query, similar in ((f"{colour} {garment}", f"{garment} {colour}"), (f"{garment} {colour}", "")):
            rows.append(
                {
                    **item,
                    "query": query,
                    "weight": 1.0,
                    "query_key": key(query),
                    "title_key": key(item["title"]),
                    "photo_key": key(item["item_id"]) if item["photo"] else 0,
                    "clicked_items": siblings,
                    "neighbor_items": siblings if similar else [],
                    "similar_query": similar,
                }
            )
    return rows


def write_split(folder: Path, rows: list[dict], files: int) -> None:
    folder.mkdir(parents=True)
    for number in range(files):
        table = pa.Table.from_pylist(rows[number::files], schema=COLUMNS)
        pq.write_table(table, folder / f"part-{number:05d}.parquet", row_group_size=ROW_GROUP_SIZE)


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set folder of 192 rows: the third model of each garment is held out as a product."""
    folder = tmp_path_factory.mktemp("training_set")
    rows = training_rows()
    held_out = [row for row in rows if row["item_id"].endswith("-2")]
    write_split(folder / "train", rows, files=2)
    write_split(folder / "validation_items", held_out, files=1)
    texts = sorted({row["title"] for row in rows} | {row["query"] for row in rows})
    pq.write_table(pa.table({"text": texts}), folder / "texts.parquet")
    pq.write_table(pa.Table.from_pylist(catalog()), folder / "items.parquet")
    (folder / "manifest.json").write_text(json.dumps({"training_set_id": "tiny", "row_group_size": ROW_GROUP_SIZE}))
    return folder
