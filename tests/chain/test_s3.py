"""A lake at `s3a://`, in a server that stands in for S3: nights that equal a local lake's, and runs that meet."""

import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from fsspec.core import url_to_fs

from benchmarks.processes import JobProcess, environment_of_processes, free_port
from jobs.index.searcher import Searcher
from schemas import ITEM_EMBEDDINGS, ITEM_IMAGES, ITEMS, QUERY_EMBEDDINGS, QUERY_EVENTS, QUERY_ITEM_PAIRS
from schemas.table import Table
from scripts.environment import ROOT
from tests.photos import jpeg, truncated_jpeg

pytestmark = pytest.mark.slow

FIRST, SECOND = dt.date(2026, 11, 20), dt.date(2026, 11, 21)
BUCKET = "s3a://shop"
# What both lakes must hold alike, row for row.
COMPARED = (ITEMS, ITEM_IMAGES, QUERY_EVENTS, QUERY_ITEM_PAIRS, ITEM_EMBEDDINGS, QUERY_EMBEDDINGS)
JUDGED = ("judged_queries", "judgments")
OVERRIDES = {"hidden_size": 32, "embedding_dim": 32, "vocab_size": 1024, "image_height": 32, "image_width": 32}


@pytest.fixture(scope="module")
def conf_dir(tmp_path_factory) -> Path:
    """Settings of a Spark that has Hadoop's S3 client beside its JARs."""
    resolve = "from scripts.spark_jars import coordinate, resolve; print(*resolve(coordinate('s3')), sep=':')"
    command, shell = [sys.executable, "-c", resolve], {"env": environment_of_processes(), "cwd": ROOT}
    try:
        answer = subprocess.run(command, **shell, capture_output=True, text=True, check=True, timeout=400)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"needs the JARs of hadoop-aws, which cannot be resolved: {error}")
    folder = tmp_path_factory.mktemp("conf")
    settings = {
        "spark.driver.extraClassPath": answer.stdout.splitlines()[-1],
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "2g",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m",
        "spark.ui.enabled": "false",
        # As in tests/conftest.py, for frames of a few rows.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.shuffle.partitions": "1",
        "spark.databricks.delta.snapshotPartitions": "1",
    }
    (folder / "spark-defaults.conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    (folder / "log4j2.properties").write_text((ROOT / "conf" / "log4j2.properties").read_text())
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[None]:
    """A server that answers as S3 does, with an empty bucket, named to all processes by AWS's own variables."""
    port = free_port()
    with (tmp_path_factory.mktemp("store") / "log").open("wb") as log, pytest.MonkeyPatch.context() as patch:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log
        )
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "of the test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "of the test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        try:
            fs, bucket = url_to_fs(BUCKET)
            fs.mkdir(bucket)
            yield
        finally:
            server.kill()
            server.wait()
            type(fs).clear_instance_cache()


@dataclass(frozen=True)
class Place:
    """A lake, and sources beside it.

    Args:
        root: Folder or address of both.
        folder: For logs.
        conf_dir: Spark's settings.
    """

    root: str
    folder: Path
    conf_dir: Path

    @property
    def lake(self) -> str:
        return f"{self.root}/lake"

    def run(self, *jobs: str) -> list[int]:
        """Run jobs in one session; returns their statuses."""
        told = str(self.folder / "console")
        own = {"MAKE_LAKE": self.lake, "MAKE_LOG_DIR": str(self.folder), "MAKE_CONSOLE": told}
        environment = {**environment_of_processes(), "SPARK_CONF_DIR": str(self.conf_dir), **own}
        command = [sys.executable, "-m", "tests.chain.one_session"]
        with (self.folder / "errors").open("ab") as errors:
            done = subprocess.run(
                command,
                input="\n".join(jobs).encode(),
                env=environment,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        statuses = [int(line) for line in done.stdout.splitlines() if line.isdigit()]  # Spark and the JVM say more
        assert len(statuses) == len(jobs), self.told
        return statuses

    @property
    def told(self) -> str:
        """What the jobs said to people."""
        return (self.folder / "console").read_text()

    def start(self, *arguments: str) -> JobProcess:
        """Start a job in a process of its own."""
        return JobProcess([*arguments, f"--lake={self.lake}"], self.folder / f"{time.monotonic_ns()}", self.conf_dir)

    def ask(self, statement: str) -> list[dict]:
        """The rows of one `jobs sql query`."""
        command = [sys.executable, "-m", "jobs", "sql", "query", "--format=json", f"--lake={self.lake}"]
        own = {"SPARK_CONF_DIR": str(self.conf_dir), "MAKE_QUERY": statement, "MAKE_LOG_DIR": str(self.folder)}
        done = subprocess.run(
            command, env=environment_of_processes() | own, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def source(self, night: dt.date, part: str) -> str:
        return f"{self.root}/data/{night}/{part}"

    def ingests(self, night: dt.date, window: str = "") -> list[str]:
        catalog, images, log = (self.source(night, part) for part in ("catalog", "images", "query_log"))
        of_night = f"--date={night} --run-id={night}"
        return [
            f"catalog ingest {of_night} --catalog={catalog} --images={images}",
            f"query_log ingest {of_night} --query-log={log}{window}",
        ]

    def training(self) -> list[str]:
        of_night = f"--date={FIRST} --run-id={FIRST}"
        judged = " ".join(f"--{name.replace('_', '-')}={self.root}/data/{name}.parquet" for name in JUDGED)
        overrides = json.dumps({"overrides": OVERRIDES}, separators=(",", ":"))
        return [
            f"catalog generate --output={self.root}/data --items=120 --days=2 --date={FIRST} --seed=18",
            *self.ingests(FIRST, window=f" --start={FIRST - dt.timedelta(days=1)}"),
            f"query_log pairs {of_night} --window-days=2",
            f"training build_set {of_night} --row-group-size=32",
            f"training train {of_night} --epochs=1 --batch-size=32 --train-settings='{overrides}'",
            f"training evaluate {of_night} {judged}",
            f"training promote {of_night}",
        ]

    def night(self, night: dt.date) -> list[str]:
        steps = ("embedding items", "embedding queries", "index build", "index check", "index publish")
        return [f"{step} --date={night} --run-id={night}" for step in (*steps, "operations report")]

    def train(self) -> None:
        assert set(self.run(*self.training())) == {0}, self.told

    def run_two_nights(self) -> None:
        assert set(self.run(*self.night(FIRST), *self.ingests(SECOND), *self.night(SECOND))) == {0}, self.told


@pytest.fixture(scope="module")
def in_store(store, conf_dir, tmp_path_factory) -> Place:
    """A lake in the store after training and two nights; as it was before them it lies beside it."""
    place = Place(BUCKET, tmp_path_factory.mktemp("in-store"), conf_dir)
    place.train()
    fs, root = url_to_fs(BUCKET)
    fs.copy(f"{root}/lake", f"{root}/before/lake", recursive=True)
    place.run_two_nights()
    return place


@pytest.fixture(scope="module")
def on_disk(conf_dir, tmp_path_factory) -> Place:
    """The same on a disk of this machine."""
    folder = tmp_path_factory.mktemp("on-disk")
    place = Place(str(folder / "root"), folder, conf_dir)
    place.train()
    place.run_two_nights()
    return place


def digest(table: Table, source: str) -> str:
    """A SELECT of how many rows there are and of a digest of all that is content in them."""
    content = ", ".join([*table.key, *table.content_columns])
    return (
        f"SELECT '{table.name}' AS name, count(*) AS count, "
        f"CAST(sum(CAST(xxhash64({content}) AS DECIMAL(38))) AS STRING) AS digest FROM {source}"
    )


def test_nights_in_a_store_equal_those_on_a_disk(in_store, on_disk):
    everything = " UNION ALL ".join(digest(table, table.name) for table in COMPARED) + " ORDER BY name"
    found = in_store.ask(everything)
    assert found == on_disk.ask(everything)
    assert all(row["count"] for row in found)

    searchers = [Searcher.published(f"{place.lake}/indexes") for place in (in_store, on_disk)]
    assert searchers[0].manifest.content == searchers[1].manifest.content
    queries = np.random.default_rng(0).standard_normal((16, 32), dtype=np.float32)
    ids = [searcher.items(["item_id"])["item_id"].to_numpy() for searcher in searchers]
    answers = [one[searcher.search(queries, 5).rows] for one, searcher in zip(ids, searchers, strict=True)]
    np.testing.assert_array_equal(*answers)

    fs, root = url_to_fs(in_store.lake)
    assert fs.exists(f"{root}/reports/{SECOND}/index.html")
    assert not fs.find(f"{root}/leases")


def test_a_run_that_is_killed_is_succeeded_by_one_that_waited_for_its_turn(in_store):
    place = replace(in_store, root=f"{BUCKET}/before")
    job = ("embedding", "items", f"--date={FIRST}", "--batch-size=4", "--chunk-size=8")
    runs = [place.start(*job), place.start(*job)]
    runs[0].wait_until(lambda: any("driver: waits for run" in run.told for run in runs))
    (waiting,) = (run for run in runs if "waits for" in run.told)
    (at_work,) = (run for run in runs if run is not waiting)
    fs, staging = url_to_fs(f"{place.lake}/staging/embeddings", use_listings_cache=False)
    at_work.wait_until(lambda: any("/vectors-" in file for file in fs.find(staging)))
    at_work.kill()
    assert waiting.end() == 0, waiting.told
    assert "is gone; this run goes on in its place" in waiting.told
    tables = (f"delta.`{lake}/tables/item_embeddings` VERSION AS OF 1" for lake in (in_store.lake, place.lake))
    undisturbed, killed = place.ask(" UNION ALL ".join(digest(ITEM_EMBEDDINGS, table) for table in tables))
    assert undisturbed == killed
    assert not fs.find(staging)


def test_sources_of_every_kind_and_the_jobs_that_let_go_work_in_a_store(in_store):
    fs, root = url_to_fs(f"{BUCKET}/sources")
    fs.pipe(
        {
            f"{root}/catalog.csv": b"item_id,title,image_uri\n1,red dress,red.jpg\n2,blue shirt,of/blue.jpg\n3,cap,\n",
            f"{root}/log/day.jsonl": b"",
            f"{root}/photos/red.jpg": jpeg("red"),
            f"{root}/photos/of/blue.jpg": truncated_jpeg("blue"),
        }
    )
    forgotten = in_store.ask("SELECT item_id FROM current_items ORDER BY item_id LIMIT 1")[0]["item_id"]
    statuses = in_store.run(
        f"catalog ingest --lake={BUCKET}/small --date={FIRST} --catalog={BUCKET}/sources/catalog.csv "
        f"--images={BUCKET}/sources/photos",
        f"index search --like={forgotten}",
        f"operations maintain --date={SECOND} --keep-training-sets=1",
        f"operations optimize --date={SECOND}",
        f"operations forget --date={SECOND} --item-ids={forgotten} --reason=counterfeit --requested-by=ann",
    )
    assert statuses == [0, 0, 0, 0, 75]  # the published build holds the item until the next night
    left = f"SELECT count(*) AS count FROM items WHERE item_id = '{forgotten}'"
    photos = f"SELECT count(*) AS count FROM delta.`{BUCKET}/small/tables/item_images` WHERE readable"
    assert [row["count"] for row in in_store.ask(f"{left} UNION ALL {photos}")] == [0, 1]
    assert not fs.find(f"{in_store.lake}/training_sets")
