"""Poisoned builds are refused, each by the gate meant for it, and the published build stays as it was."""

import datetime as dt
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from jobs.core.lake import Lake
from jobs.index import check
from jobs.index.builds import find_build, mirror_published, published_build
from schemas import ITEM_IMAGES, ITEMS
from tests.builds import rewrite_items, unit
from tests.lakes import put_promoted_model
from tests.photos import jpeg

DAY, NEXT_DAY = dt.date(2026, 11, 1), dt.date(2026, 11, 2)
TITLES = [f"title of {row}" for row in range(60)]
PHOTOS = [jpeg(colour) for colour in ("red", "green", "blue")]
SHARD = "shard-00000-of-00002"


class Market:
    """A lake with a catalog, a published build of it, and builds of the next night that are put beside it."""

    def __init__(self, lake, put_build_in, rows, model_version):
        self.lake, self.rows = lake, rows
        self._put_build_in, self._model_version = put_build_in, model_version
        self._photos = [hashlib.sha256(PHOTOS[row % 3]).hexdigest() if row % 2 else None for row in range(60)]

    def put(self, build_id, rows, *, date=NEXT_DAY, status="built") -> Path:
        """Put a build; returns its folder."""
        photos = self._photos[: len(rows)]
        self._put_build_in(self.lake, build_id, date, status, rows, self._model_version, photos=photos)
        return Path(self.lake.path("indexes", build_id))

    def published(self) -> tuple[str, dict[str, bytes]]:
        """The published build and the bytes of its files."""
        build_id = published_build(self.lake)["build_id"]
        files = [*Path(self.lake.path("indexes", build_id)).iterdir(), Path(self.lake.path("indexes", "CURRENT"))]
        return build_id, {file.name: file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def market(spark, put_build_in, embed, model_folder, tmp_path_factory) -> Market:
    lake = Lake(spark, str(tmp_path_factory.mktemp("poison") / "lake"))
    version = put_promoted_model(lake, spark, model_folder)
    rows = embed(TITLES, [PHOTOS[row % 3] if row % 2 else None for row in range(60)])
    of_all = {"title": "t", "is_active": True, "first_seen": DAY, "snapshot_date": DAY}
    items = [
        {**dict.fromkeys(ITEMS.column_names), **of_all, "item_id": str(row), "content_hash": f"content of {row}"}
        for row in range(60)
    ]
    lake.append(ITEMS, spark.createDataFrame(items, ITEMS.schema))
    images = [(hashlib.sha256(photo).hexdigest(), photo, len(photo), 1, 1, "JPEG", True, None) for photo in PHOTOS]
    lake.append(ITEM_IMAGES, spark.createDataFrame(images, ITEM_IMAGES.schema))
    market = Market(lake, put_build_in, rows, version)
    market.put("build-old", rows, date=DAY, status="published")
    mirror_published(lake, "build-old")
    return market


def items_turned(items: pa.Table) -> pa.Table:
    """Every row tells the next one's item; vectors stay."""
    turned = items.take(np.roll(np.arange(len(items)), 1))
    return turned.set_column(turned.column_names.index("embedding"), "embedding", items["embedding"])


def with_another_models(rows: np.ndarray) -> np.ndarray:
    """Every sixth item has a vector of the model's next version, which turned a little."""
    turned = unit(rows + 0.3 * np.roll(rows, 1, axis=1))
    return np.where((np.arange(len(rows)) % 6 == 0)[:, None], turned, rows)


def with_a_nan(rows: np.ndarray) -> np.ndarray:
    poisoned = rows.copy()
    poisoned[41, 3] = np.nan
    return poisoned


@pytest.mark.parametrize(
    ("rows", "gate", "says"),
    [
        (with_another_models, "model_agreement", "10 miss the bound"),
        (lambda rows: rows[:57], "coverage", "57 of 60 active items; without: 57, ..."),
        (lambda rows: rows / 2, "norms", "60 miss the bound"),
        (with_a_nan, "norms", "from 1: 41 of d; 1 miss the bound"),
    ],
    ids=["two model versions mixed", "5 % of items missing", "norms of 0.5", "NaN"],
)
def test_a_build_of_poisoned_vectors_is_refused(market, run_job_in, request, rows, gate, says):
    refused_by(gate, says, market, run_job_in, request, rows(market.rows), lambda folder: None)


def swap(folder: Path) -> None:
    one, other = folder / f"{SHARD}.faiss", folder / "shard-00001-of-00002.faiss"
    one.rename(folder / "kept")
    other.rename(one)
    (folder / "kept").rename(other)


def truncate(folder: Path) -> None:
    content = (folder / f"{SHARD}.faiss").read_bytes()
    (folder / f"{SHARD}.faiss").write_bytes(content[: len(content) // 2])


def flip(folder: Path) -> None:
    content = bytearray((folder / f"{SHARD}.items.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / f"{SHARD}.items.parquet").write_bytes(content)


@pytest.mark.parametrize(
    ("poison", "gate", "says"),
    [
        (swap, "integrity", f"{SHARD}.faiss: expected SHA-256"),
        (truncate, "integrity", f"{SHARD}.faiss: expected SHA-256"),
        (flip, "integrity", f"{SHARD}.items.parquet: expected SHA-256"),
        (lambda folder: rewrite_items(folder, lambda items: items[::-1]), "pairing", "are not those of their rows"),
        (lambda folder: rewrite_items(folder, items_turned), "model_agreement", "60 miss the bound"),
    ],
    ids=["shards swapped", "truncated", "one byte changed", "items in another order", "of other items"],
)
def test_a_build_whose_files_were_changed_is_refused(market, run_job_in, request, poison, gate, says):
    refused_by(gate, says, market, run_job_in, request, market.rows, poison)


def refused_by(gate, says, market, run_job_in, request, rows, poison) -> None:
    """Put a build, poison its folder, check it, and look at what was recorded and at what is published."""
    build_id = f"build-{request.node.callspec.id}"
    before = market.published()
    poison(market.put(build_id, rows))
    record = run_job_in(market.lake, check, date=NEXT_DAY, build_id=build_id, max_latency_ms=60_000)
    row = find_build(market.lake, build_id)
    missed = {gate["gate"]: gate["detail"] for gate in row["gates"] if gate["blocking"] and not gate["passed"]}
    assert (record["verdict"], row["status"]) == ("failed", "failed")
    assert says in missed[gate], missed
    assert f"{gate} is" in record["notes"][-1]
    assert "build-old stays published" in record["notes"][-1]
    assert market.published() == before


def test_the_same_build_unpoisoned_passes(market, run_job_in):
    market.put("build-sound", market.rows)
    record = run_job_in(market.lake, check, date=NEXT_DAY, build_id="build-sound", max_latency_ms=60_000)
    assert record["verdict"] == "succeeded", record["notes"]
    gates = {gate["gate"]: gate for gate in find_build(market.lake, "build-sound")["gates"]}
    assert gates["model_agreement"]["figure"] < 1e-5
    assert gates["drift"]["figure"] < 1e-5


def test_a_random_model_is_refused_where_nothing_is_published(lake, run_job, put_build, embed, tmp_path):
    """The model of the tests is one: whatever is asked, it finds by chance."""
    words = ["red", "blue", "green", "black", "dress", "shirt", "hat", "shoe", "bag", "coat"]
    titles = [f"{first} {second} {third}" for first in words for second in words for third in words]
    put_build("build-a", DAY, "built", rows=embed(titles))
    queries, judgments = tmp_path / "queries.csv", tmp_path / "judgments.csv"
    asked = range(0, 1000, 5)
    queries.write_text("query_id,query\n" + "".join(f"q{row},{titles[row]}\n" for row in asked))
    judgments.write_text("query_id,item_id\n" + "".join(f"q{row},{row}\n" for row in asked))
    judged = {"judged_queries": str(queries), "judgments": str(judgments)}
    made_up = {"min_coverage": 0.0, "agreement_items": 0, "max_latency_ms": 60_000}
    record = run_job(check, date=DAY, **judged, **made_up)
    row = find_build(lake, "build-a")
    assert (record["verdict"], row["status"]) == ("failed", "failed")
    assert [gate["gate"] for gate in row["gates"] if not gate["passed"]] == ["judged_floor"]
    assert "chance finds 0.0100" in record["notes"][-1]
    assert "Nothing is published" in record["notes"][-1]
