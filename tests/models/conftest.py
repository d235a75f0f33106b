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
ROW_GROUP_SIZE = 16
PRODUCT_COLUMNS = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("photo", pa.binary()),
        ("item_key", pa.int64()),
        ("title_key", pa.int64()),
        ("photo_key", pa.int64()),
        ("queries", pa.list_(pa.string())),
        ("similar_queries", pa.list_(pa.string())),
        ("clicked_items", pa.list_(pa.int64())),
        ("clicked_counts", pa.list_(pa.int32())),
        ("neighbor_items", pa.list_(pa.int64())),
        ("neighbor_counts", pa.list_(pa.int32())),
    ]
)
PAIR_COLUMNS = pa.schema(
    [
        ("query", pa.string()),
        ("item_id", pa.string()),
        ("item_key", pa.int64()),
        ("clicked_items", pa.list_(pa.int64())),
    ]
)


def key(text: str) -> int:
    return zlib.crc32(text.encode()) + 1


def catalog() -> list[dict]:
    """Every colour of every garment's models; a title names the colour in one model of three, one photo is broken."""
    items = []
    for colour, garment, number in itertools.product(COLOURS, GARMENTS, range(MODELS_PER_GARMENT)):
        item_id = f"{colour}-{garment}-{number}"
        title = f"{colour} {garment} model{number}" if number == 0 else f"{garment} model{number} {key(item_id) % 9973}"
        photo = {"red-dress-0": truncated_jpeg("red"), "blue-hat-0": b""}.get(item_id, jpeg(colour))
        items.append({"item_id": item_id, "title": title, "photo": photo, "item_key": key(item_id)})
    return items


def training_rows() -> list[dict]:
    """Every item asked for in two word orders, of which the first has the second as its neighbour."""
    rows = []
    for item in catalog():
        colour, garment, _ = item["item_id"].split("-")
        siblings = [key(f"{colour}-{garment}-{number}") for number in range(MODELS_PER_GARMENT)]
        rows.append(
            {
                **item,
                "title_key": key(item["title"]),
                "photo_key": key(item["item_id"]) if item["photo"] else 0,
                "queries": [f"{colour} {garment}", f"{garment} {colour}"],
                "similar_queries": [f"{garment} {colour}", ""],
                "clicked_items": siblings * 2,
                "clicked_counts": [len(siblings)] * 2,
                "neighbor_items": siblings,
                "neighbor_counts": [len(siblings), 0],
            }
        )
    return rows


def held_out_queries() -> list[dict]:
    """A query for each colour of each garment in words that training has otherwise, and all that its log clicked."""
    return [
        {
            "query": f"a {row['queries'][1]}",
            "item_id": row["item_id"],
            "item_key": row["item_key"],
            "clicked_items": row["neighbor_items"],
        }
        for row in training_rows()
    ]


def held_out_products() -> list[dict]:
    """The third model of each garment, under every query that asks for it."""
    return [
        {"query": query, "item_id": row["item_id"], "item_key": row["item_key"], "clicked_items": row["neighbor_items"]}
        for row in training_rows()
        if row["item_id"].endswith("-2")
        for query in row["queries"]
    ]


def write_split(folder: Path, rows: list[dict], schema: pa.Schema = PRODUCT_COLUMNS, *, files: int = 1) -> None:
    folder.mkdir(parents=True)
    for number in range(files):
        table = pa.Table.from_pylist(rows[number::files], schema=schema)
        pq.write_table(table, folder / f"part-{number:05d}.parquet", row_group_size=ROW_GROUP_SIZE)


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training set folder of 96 products: what is held out trains too, for the tests only."""
    folder = tmp_path_factory.mktemp("training_set")
    rows = training_rows()
    write_split(folder / "train", rows, files=2)
    write_split(folder / "validation_queries", held_out_queries(), PAIR_COLUMNS)
    write_split(folder / "validation_items", held_out_products(), PAIR_COLUMNS)
    texts = sorted({row["title"] for row in rows}.union(*(row["queries"] for row in rows)))
    pq.write_table(pa.table({"text": texts}), folder / "texts.parquet")
    pq.write_table(pa.Table.from_pylist(catalog()), folder / "items.parquet")
    (folder / "manifest.json").write_text(json.dumps({"training_set_id": "tiny", "row_group_size": ROW_GROUP_SIZE}))
    return folder
