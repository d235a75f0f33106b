"""An item that is taken down is gone from rows, files, feed, builds and pages; all others are as they were."""

import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.catalog import ingest
from jobs.core.job import EXIT_AGAIN, JobRun
from jobs.core.lake import Lake
from jobs.core.lease import held_lease
from jobs.embedding.vectors import lease_name
from jobs.index import rollback, search
from jobs.operations import forget as job
from jobs.operations.traces import items_on_page
from jobs.query_log import ingest as log_ingest
from schemas import (
    ALL_TABLES,
    EMBEDDING_FAILURES,
    FORGOTTEN_ITEMS,
    INDEX_BUILDS,
    ITEM_EMBEDDINGS,
    ITEM_IMAGES,
    ITEMS,
    JOB_RUNS,
    JUDGED_RESULTS,
    PHOTO_WEIGHTS,
    QUERY_EVENTS,
    QUERY_ITEM_PAIRS,
    REJECTED_ROWS,
    TRAINING_SETS,
)
from tests.embedding.products import put_items
from tests.operations.nights import build_row
from tests.photos import jpeg

DAY, TOMORROW = dt.date(2026, 11, 2), dt.date(2026, 11, 3)
WORD = "zebrafish"
OLD_PHOTO, PHOTO, SHARED, OTHER = map(jpeg, ["red", "blue", "green", "white"])
VECTOR = np.array([0.28, 0.96], np.float32)
# What nothing may hold afterwards: the word of its titles, its photos, its vector.
MARKS = (WORD, repr(OLD_PHOTO), repr(PHOTO), repr(VECTOR.tolist()))
RAW_MARKS = (WORD.encode(), OLD_PHOTO, PHOTO, VECTOR.tobytes())
GONE, KEPT = "it's 1", "b"
OF_ITEMS = (ITEMS, ITEM_EMBEDDINGS, EMBEDDING_FAILURES, QUERY_EVENTS, QUERY_ITEM_PAIRS, PHOTO_WEIGHTS)
FOLDER_OF_MODEL = "staging/embeddings/m"


@dataclass(frozen=True)
class State:
    """What a run left behind.

    Args:
        record: Its row in job_runs.
        status: Its exit status.
        marked: Files that hold a mark of the item.
        versions: Of every table but job_runs.
        rows_of_items: Rows of the items in tables that are keyed by items.
        kept: Rows of other items by table, as text.
        files: All but those of tables.
    """

    record: Row
    status: int
    marked: list[str]
    versions: dict[str, int]
    rows_of_items: int
    kept: dict[str, list[str]]
    files: set[str]


def marked_files(lake: Lake) -> list[str]:
    """Files that hold a mark, tables' logs among them; Parquet files decoded."""
    marked = []
    for path in sorted(Path(lake.path("")).rglob("*")):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        text = str(pq.read_table(path, partitioning=None).to_pylist()) if path.suffix == ".parquet" else ""
        if any(mark in raw for mark in RAW_MARKS) or any(mark in text for mark in MARKS):
            marked.append(str(path.relative_to(lake.path(""))))
    return marked


def rows_of_items(lake: Lake) -> int:
    """Rows that are about a forgotten item."""
    return sum(lake.read(table).where(F.col("item_id").isin(GONE, "z")).count() for table in OF_ITEMS)


def rows_of_others(lake: Lake) -> dict[str, list[str]]:
    """Rows that name no forgotten item, or stay beside it."""
    kept = {}
    for table in OF_ITEMS:
        kept[table.name] = sorted(map(str, lake.read(table).where(~F.col("item_id").isin(GONE, "z")).collect()))
    kept[REJECTED_ROWS.name] = sorted(row["row"] for row in lake.read(REJECTED_ROWS).collect())
    kept[ITEM_IMAGES.name] = sorted(row["content_sha256"] for row in lake.read(ITEM_IMAGES).collect())
    return kept


def fill_tables(lake: Lake, spark) -> None:
    """Two items to forget, of which one had another photo before and one shares its photo, and two to keep."""

    def put(table, *rows):
        lake.append(table, spark.createDataFrame(list(rows), table.schema))

    put_items(lake, spark, (GONE, f"{WORD} before", OLD_PHOTO), ("z", "a hat", SHARED), (KEPT, "blue shirt", SHARED))
    put_items(lake, spark, (GONE, f"{WORD} dress", PHOTO), ("c", "scarf", OTHER))
    items = (GONE, "z", KEPT, "c")
    vectors = [VECTOR.tolist(), [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
    put(
        ITEM_EMBEDDINGS,
        *((i, m, "h", v, 1.0, 0.0, 0.0, "ok", "r") for m in "mn" for i, v in zip(items, vectors, strict=True)),
    )
    put(EMBEDDING_FAILURES, *((item, "m", "h", f"NaN in {WORD}" if item == GONE else "NaN", 1, DAY) for item in items))
    at = dt.datetime(2026, 11, 2)
    put(QUERY_EVENTS, *((f"e-{item}", DAY, at, "s", "red", item, "click", 1) for item in items))
    put(QUERY_ITEM_PAIRS, *(("red", item, 2, 1, 0, 1.0, DAY, DAY) for item in items))
    put(PHOTO_WEIGHTS, *(("m", item, 0.5, 0.1, "ok") for item in items))
    measured = ("m", "set", DAY, "all", "q", "red", *[1.0] * 5, [GONE, KEPT], ["c", GONE], at)
    put(JUDGED_RESULTS, measured)
    rejected = [
        ("catalog", DAY, "duplicate_item_id", json.dumps({"item_id": GONE, "title": WORD})),
        ("catalog", DAY, "malformed_line", f'{{"item_id": "{GONE}", "title": "{WORD}'),
        ("catalog", DAY, "malformed_line", '{"item_id": "it\'s 11", "title'),
        ("catalog_flags", DAY, "photo_truncated", '{"item_id":"c"}'),
        ("query_log", DAY, "bad_timestamp", json.dumps({"event_id": "e", "item_id": f" {GONE}", "query": WORD})),
    ]
    put(REJECTED_ROWS, *rejected)
    sets = [(name, DAY, f"training_sets/{name}", 1, 0, 0, 1, 1, {}, at) for name in ("held", "free")]
    put(TRAINING_SETS, *sets)
    put(
        INDEX_BUILDS,
        build_row("build-serving", date=DAY, gates=[]),
        build_row("build-before", date=DAY - dt.timedelta(days=1), gates=[], status="superseded"),
        build_row("build-unjudged", date=DAY, status="built"),
        build_row("build-without", date=DAY, gates=[], status="passed"),
    )


def fill_folders(lake: Lake) -> None:
    """Training sets, builds, staged chunks, checkpoints and pages that hold the item, and some that do not."""
    root = Path(lake.path(""))

    def write(name: str, content: str | bytes) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def write_rows(name: str, *items: str, **columns: list) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"item_id": list(items), **columns}), root / name)

    write_rows("training_sets/held/train/part-00000.parquet", GONE, KEPT, title=[WORD, "x"], photo=[PHOTO, SHARED])
    write_rows("training_sets/free/train/part-00000.parquet", KEPT)
    for name in ("held", "free"):
        pq.write_table(
            pa.table({"text": [WORD if name == "held" else "x"]}), root / f"training_sets/{name}/texts.parquet"
        )
        write(f"training_sets/{name}/manifest.json", "{}")
        write(f"staging/training/{name}/step-1/tensors.safetensors", VECTOR.tobytes() if name == "held" else b"")
        state = {"settings": {"training_set": f"{root}/training_sets/{name}"}}
        write(f"staging/training/{name}/step-1/state.json", json.dumps(state))
    write("training_sets/cut-off/train/.part-00000.parquet.0", PHOTO)
    write("staging/training/cut-off/step-1/tensors.safetensors", VECTOR.tobytes())
    for build in ("build-serving", "build-before", "build-unjudged", "build-loose"):
        write_rows(f"indexes/{build}/shard-00000-of-00001.items.parquet", KEPT, GONE, title=["x", WORD])
        write(f"indexes/{build}/shard-00000-of-00001.faiss", VECTOR.tobytes())
        write(f"indexes/{build}/manifest.json", "{}")
    write_rows("indexes/build-without/shard-00000-of-00001.items.parquet", KEPT)
    write("indexes/build-without/manifest.json", "{}")
    write("indexes/CURRENT", "{}")
    write_rows(f"{FOLDER_OF_MODEL}/vectors-1-2.parquet", GONE, KEPT, embedding=[VECTOR.tolist(), [0.0, 1.0]])
    write_rows(f"{FOLDER_OF_MODEL}/vectors-2-1.parquet", KEPT, embedding=[[0.0, 1.0]])
    write("reports/night-1/index.html", f'<li title="it&#39;s 1: {WORD}: dress">')
    write("reports/night-2/index.html", '<li title="it&#39;s 11: scarf">')


@pytest.fixture(scope="module")
def runs(spark, tmp_path_factory) -> dict[str, State]:
    """Takedowns over one lake, by name, in the order in which they ran."""
    lake = Lake(spark, str(tmp_path_factory.mktemp("takedown") / "lake"))
    fill_tables(lake, spark)
    fill_folders(lake)
    states = {}

    def keep(name: str, record: Row | None = None, status: int = 0) -> None:
        tables = [table for table in ALL_TABLES if table is not JOB_RUNS]
        files = set(Path(lake.path("")).rglob("*.*")) - set(Path(lake.path("tables")).rglob("*"))
        names = {str(file.relative_to(lake.path(""))) for file in files if "leases" not in file.parts}
        rows = rows_of_items(lake), rows_of_others(lake)
        states[name] = State(record, status, marked_files(lake), lake.versions(*tables), *rows, names)

    def run(name: str, **options) -> None:
        takedown = JobRun("operations forget", job.Options(lake=lake.root, **options))
        status = takedown.execute(job.run)
        keep(name, lake.read(JOB_RUNS).orderBy(F.desc("finished_at")).first(), status)

    keep("before")
    told = {"item_ids": [GONE, "z"], "reason": "counterfeit", "requested_by": "ann"}
    run("first", date=DAY, **told)
    run("serving", date=DAY, retention_hours=0)
    status = F.when(F.col("build_id") == "build-without", "published").otherwise("superseded")
    of_two = F.col("build_id").isin("build-without", "build-serving")
    lake.delta(INDEX_BUILDS).update(of_two, {"status": status})
    run("last", date=TOMORROW, retention_hours=0)
    run("again", date=TOMORROW, retention_hours=0, **told)
    run("pending none", date=TOMORROW)
    states["lake"] = lake
    return states


def test_before_its_takedown_the_item_is_everywhere(runs):
    places = {"/".join(name.split("/")[:2]) for name in runs["before"].marked}
    tables = ("items", "item_images", "item_embeddings", "embedding_failures", "rejected_rows")
    folders = {
        "staging/training",
        "staging/embeddings",
        "training_sets/held",
        "training_sets/cut-off",
        "reports/night-1",
    }
    assert places == {f"tables/{table}" for table in tables} | folders | {
        f"indexes/build-{name}" for name in ("serving", "before", "unjudged", "loose")
    }


def test_within_the_retention_rows_and_folders_go_and_old_files_stay(runs):
    first = runs["first"]
    assert (first.status, first.record["verdict"]) == (EXIT_AGAIN, "succeeded")
    assert first.kept["items"] == runs["before"].kept["items"]
    folders = {"/".join(name.split("/")[:2]) for name in first.marked if not name.startswith("tables/")}
    assert folders == {"indexes/build-serving", "training_sets/cut-off", "staging/training"}
    assert any(name.startswith("tables/items/_change_data/") for name in first.marked)
    assert first.record["figures"]["items_left"] == 2
    assert first.record["notes"][0] == "2 items are recorded: from now on ingests refuse them"
    notes = " ".join(first.record["notes"])
    for words in (
        "the published build-serving",
        "2 unfinished files",
        "item_images, items, which versions of the last 24",
    ):
        assert words in notes
    assert (runs["before"].rows_of_items, first.rows_of_items) == (14, 0)


def test_a_published_build_that_holds_the_item_keeps_it_pending(runs):
    serving = runs["serving"]
    assert serving.status == EXIT_AGAIN
    assert serving.record["notes"] == [
        "left of 1 of 2 items: the published build-serving, until the next night's build is published in its place"
    ]
    assert {name.rpartition("/")[0] for name in serving.marked} == {"indexes/build-serving"}
    gone = dict(runs["lake"].read(FORGOTTEN_ITEMS).select("item_id", "gone_on").collect())
    assert gone == {"z": DAY, GONE: TOMORROW}


def test_in_the_end_no_file_holds_anything_of_the_item(runs):
    last = runs["last"]
    assert (last.status, last.record["verdict"], last.marked) == (0, "succeeded", [])
    assert runs["before"].files - last.files == {
        *(f"training_sets/held/{name}" for name in ("manifest.json", "texts.parquet", "train/part-00000.parquet")),
        *(f"staging/training/held/step-1/{name}" for name in ("state.json", "tensors.safetensors")),
        "training_sets/cut-off/train/.part-00000.parquet.0",
        "staging/training/cut-off/step-1/tensors.safetensors",
        f"{FOLDER_OF_MODEL}/vectors-1-2.parquet",
        "reports/night-1/index.html",
        *(
            f"indexes/build-{build}/{name}"
            for build in ("serving", "before", "unjudged", "loose")
            for name in ("manifest.json", "shard-00000-of-00001.faiss", "shard-00000-of-00001.items.parquet")
        ),
    }


def test_others_rows_and_a_shared_photo_stay_as_they_were(runs):
    before, last = runs["before"].kept, runs["last"].kept
    for table in OF_ITEMS:
        assert last[table.name] == before[table.name]
    assert last["item_images"] == sorted(hashlib.sha256(photo).hexdigest() for photo in (SHARED, OTHER))
    assert last["rejected_rows"] == ['{"item_id": "it\'s 11", "title', '{"item_id":"c"}']
    measured = runs["lake"].read(JUDGED_RESULTS).first()
    assert (measured["relevant"], measured["found"]) == ([KEPT], ["c"])
    sets = runs["lake"].read(TRAINING_SETS).collect()
    assert [row["training_set_id"] for row in sets] == ["free"]


def test_what_is_gone_is_looked_for_again_without_a_change(runs):
    for name in ("again", "pending none"):
        assert (runs[name].status, runs[name].record["verdict"]) == (0, "unchanged")
        assert runs[name].versions == runs["last"].versions
    assert runs["pending none"].record["notes"] == ["no takedown is pending"]


def test_a_removed_build_is_named_so_and_neither_published_nor_searched(runs, run_job_in):
    lake = runs["lake"]
    statuses = dict(lake.read(INDEX_BUILDS).select("build_id", "status").collect())
    removed = dict.fromkeys(("build-serving", "build-before", "build-unjudged"), "removed")
    assert statuses == {**removed, "build-without": "published"}
    back = run_job_in(lake, rollback, by="ann", reason="r", build_id="build-before")
    found = run_job_in(lake, search, query="red", build_id="build-serving")
    for record in (back, found):
        assert record["verdict"] == "failed"
        assert "or with an item that was taken down (`operations forget`)" in record["notes"][-1]


def test_ingests_refuse_the_item_and_keep_its_id_alone(runs, run_job_in, tmp_path):
    lake = runs["lake"]
    snapshot, log = tmp_path / "catalog.jsonl", tmp_path / "log.jsonl"
    rows = [{"item_id": name, "title": f"{WORD} {name}"} for name in (GONE, KEPT, "c")]
    rows += [{"item_id": GONE, "title": ""}]
    snapshot.write_text("".join(json.dumps(row) + "\n" for row in rows) + f'{{"item_id": "{GONE}", "title": "{WORD}')
    event = {"event_ts": "2026-11-03 10:00:00", "session_id": "s", "query": WORD, "event_type": "click"}
    events = [{"event_id": f"f-{name}", "item_id": name, **event} for name in (GONE, KEPT)]
    log.write_text("".join(json.dumps(row) + "\n" for row in events) + json.dumps(events[0])[:-2] + "\n")
    taken = run_job_in(lake, ingest, date=TOMORROW, catalog=str(snapshot), max_lost_photos_share=1)
    assert (taken["verdict"], taken["rows_in"], taken["rows_out"]) == ("succeeded", 5, 2)
    assert taken["figures"]["items_departed"] == 0
    logged = run_job_in(lake, log_ingest, date=TOMORROW, query_log=str(log))
    assert (logged["verdict"], logged["rows_in"], logged["rows_out"]) == ("succeeded", 3, 1)
    refused = lake.read(REJECTED_ROWS).where(F.col("logical_date") == F.lit(TOMORROW)).collect()
    assert {(row["reason"], row["row"]) for row in refused} == {
        ("forgotten_item", json.dumps({"item_id": GONE}, separators=(",", ":")))
    }
    assert len(refused) == 5
    again = run_job_in(lake, ingest, date=TOMORROW, catalog=str(snapshot), max_lost_photos_share=1)
    assert again["verdict"] == "unchanged"
    # What was refused is no trace of the item.
    versions = lake.versions(ITEMS, REJECTED_ROWS, FORGOTTEN_ITEMS)
    told = {"item_ids": [GONE], "reason": "counterfeit", "requested_by": "ann"}
    assert run_job_in(lake, job, date=TOMORROW, retention_hours=0, **told)["verdict"] == "unchanged"
    assert lake.versions(ITEMS, REJECTED_ROWS, FORGOTTEN_ITEMS) == versions


def test_while_vectors_are_written_the_item_is_refused_and_nothing_else_is_done(lake, spark, run_job, tmp_path):
    class Holder:
        run_id, name, note = "another", "embedding backfill", print

    Holder.lake = lake
    put_items(lake, spark, ("a", "hat", None), ("b", "shirt", None))
    row = ("a", "m", "h", [1.0, 0.0], 1.0, 0.0, 0.0, "ok", "r")
    lake.append(ITEM_EMBEDDINGS, spark.createDataFrame([row], ITEM_EMBEDDINGS.schema))
    with held_lease(Holder, lease_name("m")):
        record = run_job(job, date=DAY, item_ids=["a"], reason="r", requested_by="ann")
    assert record["verdict"] == "failed"
    assert "item_embeddings-m: run another" in record["notes"][-1]
    assert lake.read(ITEM_EMBEDDINGS).count() == 1
    assert [tuple(row) for row in lake.read(FORGOTTEN_ITEMS).collect()] == [("a", "r", "ann", DAY, None)]
    snapshot = tmp_path / "catalog.csv"
    snapshot.write_text("item_id,title,category,price,image_uri\na,another hat,c,1.0,\nb,shirt,c,1.0,\n")
    taken = run_job(ingest, date=DAY, catalog=str(snapshot))
    # Neither changed nor departed: its rows wait for the takedown.
    assert (taken["verdict"], taken["rows_rejected"]) == ("unchanged", 1)
    assert {row["title"] for row in lake.read(ITEMS).where("is_active").collect()} == {"hat", "shirt"}


def test_a_takedown_needs_a_reason_and_who_asked():
    with pytest.raises(ValidationError, match="--item-ids needs --reason and --requested-by"):
        job.Options(date=DAY, item_ids="a,b", reason="r")


@pytest.mark.parametrize(
    ("page", "named"),
    [
        ('<li title="a: a title">', {"a"}),
        ('<li title="a: b: a title">', {"a", "a: b"}),
        ('<li title="ab: a title: c">', set()),
        (
            '<ul class="results"><li title="7: new"><del class="title">a: old</del></li><li title="a: b: c"></li></ul>',
            {"7", "a", "a: b"},
        ),
        ("<td><code>{&#34;item_id&#34;:&#34;a&#34;,&#34;title&#34;:&#34;7&#34;}</code></td>", {"a"}),
        ("<td><code>{&#34;item_id&#34;: 7, &#34;title&#34;: &#34;a&#34;}</code></td>", {"7"}),
        ("<td><code>{&#34;item_id&#34;:7.0,&#34;title&#34;:&#34;a&#34;}</code></td>", {"7"}),
        ("<td><code>{&#34;item_id&#34;:&#34;a&#34;}</code></td>", set()),
        ("<td><code>7,a red dress,&#34;</code></td>", {"7", "a"}),
        ("<p>a 7</p>", set()),
    ],
)
def test_a_page_names_the_items_that_it_shows_or_quotes(page, named):
    assert items_on_page(page, ["a", "a: b", "7"]) == named
