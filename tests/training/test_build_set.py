"""A training set keeps its promises: what is in a row, what is held out, and how the files are cut."""

import datetime as dt
import hashlib
import json
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.training import build_set
from jobs.training.row_groups import RowGroupFile
from jobs.training.rows import PAIR_COLUMNS, PRODUCT_COLUMNS, QUERIES_PER_ROW
from jobs.training.splits import SPLITS, TRAIN, VALIDATION_ITEMS, VALIDATION_QUERIES
from schemas import ITEM_IMAGES, ITEMS, QUERY_ITEM_PAIRS, SIMILAR_QUERIES, TRAINING_SETS

DAY = dt.date(2026, 11, 14)
COLOURS = ("red", "blue", "green", "black", "white", "pink", "grey", "navy")
KINDS = ("dress", "shirt", "shoes", "bag", "watch", "scarf")
SETTINGS = {"date": DAY, "row_group_size": 4, "validation_query_share": 0.15, "validation_item_share": 0.1}


def photo(item: int) -> bytes | None:
    return None if item % 7 == 0 else f"jpeg {item}".encode()


def sha(content: bytes | None) -> str | None:
    return content and hashlib.sha256(content).hexdigest()


@pytest.fixture
def filled_lake(spark, lake):
    """48 kinds of product, 4 items each; every kind is asked for in two word orders, and a few queries go astray."""
    items, images, pairs, similar = [], [], [], []
    for n in range(192):
        colour, kind = COLOURS[n % 8], KINDS[n // 8 % 6]
        title = f"{colour} {kind} model {n // 48 % 3}"
        items.append((f"i{n}", title, None, 9.5, None, None, None, sha(photo(n)), f"h{n}", True, DAY, None, DAY))
        if photo(n):
            broken = n % 11 == 0
            size = (None, None, None) if broken else (60, 80, "JPEG")
            images.append((sha(photo(n)), photo(n), len(photo(n)), *size, not broken, "truncated" if broken else None))
        for query in (f"{colour} {kind}", f"{kind} {colour}"):
            pairs.append((query, f"i{n}", 5, 2, n % 2, 1.0 + n / 7, DAY, DAY))
        pairs.append((f"{colour} {kind}", f"i{(n + 1) % 192}", 5, 1, 0, 1.25, DAY, DAY) if n % 9 == 4 else None)
    for colour in COLOURS:
        for kind in KINDS:
            ends = (f"{colour} {kind}", f"{kind} {colour}")
            similar += [(*ends, 0.9, 4), (*ends[::-1], 0.9, 4)]
            other = KINDS[(KINDS.index(kind) + 1) % 6]
            similar += [(ends[0], f"{colour} {other}", 0.3, 2), (f"{colour} {other}", ends[0], 0.3, 2)]
    pairs = {pair[:2]: pair for pair in reversed(pairs) if pair}.values()
    pairs = [*pairs, ("red dress", "i100", 9, 0, 0, 0.0, DAY, DAY)]
    lake.append(ITEMS, spark.createDataFrame(items, ITEMS.schema))
    lake.append(ITEM_IMAGES, spark.createDataFrame(images, ITEM_IMAGES.schema))
    lake.append(QUERY_ITEM_PAIRS, spark.createDataFrame(pairs, QUERY_ITEM_PAIRS.schema))
    lake.append(SIMILAR_QUERIES, spark.createDataFrame(similar, SIMILAR_QUERIES.schema))
    return lake


class BuiltSet:
    """A set read back without Spark."""

    def __init__(self, lake):
        self.record = lake.read(TRAINING_SETS).first()
        self.folder = Path(lake.path(self.record["uri"]))
        self.manifest = json.loads((self.folder / "manifest.json").read_text())
        self.rows = {split: pq.read_table(self.folder / split).to_pylist() for split in SPLITS}
        self.pairs = {**self.rows, TRAIN: [pair for row in self.rows[TRAIN] for pair in pairs_of(row)]}


def pairs_of(product: dict) -> list[dict]:
    """A row of train as rows of (query, item), its lists taken apart."""
    pairs, ends = [], {"clicked": 0, "neighbor": 0}
    for place, query in enumerate(product["queries"]):
        pair = {name: product[name] for name in ("item_id", "title", "item_key", "title_key")}
        pair |= {"query": query, "similar_query": product["similar_queries"][place]}
        for name, start in ends.items():
            ends[name] = start + product[f"{name}_counts"][place]
            pair[f"{name}_items"] = product[f"{name}_items"][start : ends[name]]
        pairs.append(pair)
    assert all(ends[name] == len(product[f"{name}_items"]) for name in ends)
    return pairs


def test_a_set_keeps_its_promises(run_job, filled_lake):
    record = run_job(build_set, **SETTINGS)
    assert record.verdict == "succeeded", record.notes
    built = BuiltSet(filled_lake)
    _check_counts(record, built, filled_lake)
    _check_row_groups(built)
    _check_rows(built, filled_lake)
    _check_groups(built)
    _check_neighbors(built, filled_lake)
    _check_pool_and_texts(built)
    _check_second_run(run_job, filled_lake)


def _check_counts(record, built, lake):
    clicked = lake.read(QUERY_ITEM_PAIRS).where("weight > 0").count()
    assert record.rows_in == record.rows_out + record.rows_rejected == clicked
    assert record.rows_out == sum(len(pairs) for pairs in built.pairs.values())
    for split in SPLITS:
        assert len(built.rows[split]) == built.manifest["splits"][split]["rows"] > 0
        assert record.figures[f"pairs_{split}"] == len(built.pairs[split])
    assert built.record["train_rows"] == len(built.rows[TRAIN]) == record.figures["rows_train"]
    assert built.record["validation_query_rows"] == len(built.rows[VALIDATION_QUERIES])
    assert built.record["validation_item_rows"] == len(built.rows[VALIDATION_ITEMS])
    assert built.record["delta_versions"] == built.manifest["delta_versions"]


def _check_row_groups(built):
    for split in SPLITS:
        sizes, files = [], sorted((built.folder / split).iterdir())
        for file in files:
            footer = pq.read_metadata(file)
            sizes += [footer.row_group(n).num_rows for n in range(footer.num_row_groups)]
        assert [f"{split}/{file.name}" for file in files] == built.manifest["splits"][split]["files"]
        assert set(sizes[:-1]) <= {4}, split
        assert 1 <= sizes[-1] <= 4
        assert sum(sizes) == built.manifest["splits"][split]["rows"]
        assert len(sizes) == built.manifest["splits"][split]["row_groups"]
    assert len(built.manifest["splits"][TRAIN]["files"]) > 1


def _check_rows(built, lake):
    weights = {(r["query"], r["item_id"]): r["weight"] for r in lake.read(QUERY_ITEM_PAIRS).collect()}
    items = {r["item_id"]: r for r in lake.read(ITEMS).collect()}
    key_of_photo = {}
    held_out = {row["title"] for row in built.rows[VALIDATION_ITEMS]}
    shown = {item_id for item_id, item in items.items() if item["title"] not in held_out}
    assert {row["item_id"] for row in built.rows[TRAIN]} == shown, "every active item that is not held out trains"
    for row in built.rows[TRAIN]:
        assert tuple(row) == PRODUCT_COLUMNS
        n = int(row["item_id"][1:])
        readable = photo(n) if photo(n) and n % 11 else b""
        assert row["photo"] == readable
        assert (row["photo_key"] == 0) == (readable == b"")
        assert key_of_photo.setdefault(row["photo"], row["photo_key"]) == row["photo_key"]
        of_queries = [weights[query, row["item_id"]] for query in row["queries"]]
        assert of_queries == sorted(of_queries, reverse=True)
        assert len(of_queries) <= QUERIES_PER_ROW
    for split in (VALIDATION_QUERIES, VALIDATION_ITEMS):
        for row in built.rows[split]:
            assert tuple(row) == PAIR_COLUMNS
            assert row["weight"] == pytest.approx(weights[row["query"], row["item_id"]], rel=1e-6)
    pairs = [pair for of_split in built.pairs.values() for pair in of_split]
    for pair in pairs:
        assert pair["title"] == items[pair["item_id"]]["title"]
        assert pair["item_key"] in pair["clicked_items"]
    assert len({(pair["query"], pair["item_id"]) for pair in pairs}) == len(pairs), "no pair is there twice"
    order = [row["item_id"] for row in built.rows[TRAIN]]
    assert order != sorted(order), "rows are shuffled"


def _check_groups(built):
    groups = {split: {tuple(sorted(r["query"].split())) for r in pairs} for split, pairs in built.pairs.items()}
    assert not groups[TRAIN] & groups[VALIDATION_QUERIES]
    assert not groups[TRAIN] & groups[VALIDATION_ITEMS]
    assert not groups[VALIDATION_QUERIES] & groups[VALIDATION_ITEMS]
    titles = {split: {row["title_key"] for row in rows} for split, rows in built.rows.items()}
    assert not titles[TRAIN] & titles[VALIDATION_ITEMS]


def _check_neighbors(built, lake):
    clicked = defaultdict(set)
    key_of = {row["item_id"]: row["item_key"] for rows in built.rows.values() for row in rows}
    pool = pq.read_table(built.folder / "items.parquet").to_pylist()
    key_of |= {row["item_id"]: row["item_key"] for row in pool}
    for row in lake.read(QUERY_ITEM_PAIRS).where("weight > 0").collect():
        clicked[row["query"]].add(key_of[row["item_id"]])
    neighbors = defaultdict(set)
    for row in lake.read(SIMILAR_QUERIES).collect():
        neighbors[row["query"]].add(row["similar_query"])
    training = {pair["query"] for pair in built.pairs[TRAIN]}
    for pair in (pair for pairs in built.pairs.values() for pair in pairs):
        assert set(pair["clicked_items"]) == clicked[pair["query"]]
    for pair in built.pairs[TRAIN]:
        near = neighbors[pair["query"]] & training
        assert set(pair["neighbor_items"]) == {key for query in near for key in clicked[query]}
        assert pair["similar_query"] in (near or {""})
    assert {pair["similar_query"] for pair in built.pairs[TRAIN]} - {""}


def _held_out_items(built) -> set[str]:
    return {row["item_id"] for split in (VALIDATION_QUERIES, VALIDATION_ITEMS) for row in built.rows[split]}


def _check_pool_and_texts(built):
    pool = pq.read_table(built.folder / "items.parquet").to_pylist()
    assert _held_out_items(built) <= {row["item_id"] for row in pool}
    assert len(pool) == 192
    assert set(pool[0]) == {"item_id", "title", "photo", "item_key"}
    texts = pq.read_table(built.folder / "texts.parquet").column("text").to_pylist()
    assert len(texts) == len(set(texts))
    assert set(texts) == {text for row in built.rows[TRAIN] for text in (row["title"], *row["queries"])}


def _check_second_run(run_job, lake):
    before = {file: file.stat().st_mtime_ns for file in Path(lake.path("training_sets")).rglob("*") if file.is_file()}
    version = lake.version(TRAINING_SETS)
    assert run_job(build_set, **SETTINGS).verdict == "unchanged"
    assert lake.version(TRAINING_SETS) == version
    after = {file: file.stat().st_mtime_ns for file in Path(lake.path("training_sets")).rglob("*") if file.is_file()}
    assert after == before


def test_a_set_without_its_manifest_is_written_again_and_a_small_pool_keeps_every_held_out_item(run_job, filled_lake):
    settings = SETTINGS | {"pool_items": 1}
    run_job(build_set, **settings)
    first = BuiltSet(filled_lake)
    pool = pq.read_table(first.folder / "items.parquet").to_pylist()
    assert {row["item_id"] for row in pool} == _held_out_items(first)
    (first.folder / "manifest.json").unlink()
    (first.folder / TRAIN / "part-00000.parquet").write_bytes(b"cut off")
    run_job(build_set, **settings)
    assert BuiltSet(filled_lake).rows == first.rows


def test_without_validation_shares_the_splits_are_there_and_empty(run_job, filled_lake):
    run_job(build_set, date=DAY, validation_query_share=0, validation_item_share=0, min_clicks=2)
    built = BuiltSet(filled_lake)
    assert built.rows[VALIDATION_QUERIES] == built.rows[VALIDATION_ITEMS] == []
    for split in (VALIDATION_QUERIES, VALIDATION_ITEMS):
        assert pq.read_schema(built.folder / split / "part-00000.parquet").names == list(PAIR_COLUMNS)
    few = filled_lake.read(QUERY_ITEM_PAIRS).where("clicks = 1 AND purchases = 0").collect()
    assert few
    trained = {(pair["query"], pair["item_id"]) for pair in built.pairs[TRAIN]}
    assert not trained & {(row["query"], row["item_id"]) for row in few}, "one click was too few"


def test_a_product_of_many_queries_has_several_rows_and_keeps_them_all(run_job, filled_lake, spark):
    queries = [f"query {n:02d}" for n in range(2 * QUERIES_PER_ROW + 3)]
    pairs = [(query, "i100", 5, 1, 0, 1.0 + n, DAY, DAY) for n, query in enumerate(queries)]
    filled_lake.append(QUERY_ITEM_PAIRS, spark.createDataFrame(pairs, QUERY_ITEM_PAIRS.schema))
    run_job(build_set, date=DAY, validation_query_share=0, validation_item_share=0)
    rows = [row["queries"] for row in BuiltSet(filled_lake).rows[TRAIN] if row["item_id"] == "i100"]
    assert sorted(map(len, rows)) == [5, QUERIES_PER_ROW, QUERIES_PER_ROW]
    assert max(rows, key=lambda row: row[0] == queries[-1])[:3] == queries[:-4:-1], "the heaviest first"
    assert {query for row in rows for query in row} >= set(queries)


def test_without_silent_products_only_those_with_clicks_train(run_job, filled_lake):
    filled_lake.delta(QUERY_ITEM_PAIRS).delete("item_id = 'i5'")
    settings = {"date": DAY, "validation_query_share": 0, "validation_item_share": 0}
    record = run_job(build_set, **settings)
    (row,) = [row for row in BuiltSet(filled_lake).rows[TRAIN] if not row["queries"]]
    assert record.figures["products_without_clicks"] == 1
    assert row["item_id"] == "i5"
    assert row["clicked_items"] == row["neighbor_counts"] == []
    record = run_job(build_set, **settings, silent_products=False)
    assert record.figures["products_without_clicks"] == 0
    assert record.figures["rows_train"] == 191


def test_pairs_of_a_later_window_are_refused(run_job, filled_lake):
    record = run_job(build_set, date=DAY - dt.timedelta(days=1))
    assert record.verdict == "failed"
    assert "got 2026-11-14: run query-log pairs --date 2026-11-13" in record.notes[0]


@pytest.mark.parametrize("batch_rows", [1, 3, 4, 7, 50])
def test_row_groups_are_full_whatever_the_batches(tmp_path, batch_rows):
    schema = pa.schema([("n", pa.int64())])
    file = RowGroupFile(tmp_path.as_uri(), "train/part.parquet", schema, row_group_size=4)
    for start in range(0, 50, batch_rows):
        file.add(pa.record_batch([pa.array(range(start, min(start + batch_rows, 50)))], schema=schema))
    assert not (tmp_path / "train" / "part.parquet").exists(), "an unfinished file has no name"
    written = file.close()
    footer = pq.read_metadata(tmp_path / "train" / "part.parquet")
    assert [footer.row_group(n).num_rows for n in range(footer.num_row_groups)] == [4] * 12 + [2]
    assert (written.rows, written.row_groups) == (50, 13)
    assert pq.read_table(tmp_path / "train").column("n").to_pylist() == list(range(50))
    assert len(list((tmp_path / "train").iterdir())) == 1
