"""`make sql-server` answers JDBC tools and notebooks, over a lake that none of them can write."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyspark
import pytest
from PIL import Image

from benchmarks.jdbc import Jdbc, SqlError
from benchmarks.sql_search import Server
from jobs.index.builds import mirror_published
from schemas import FORGOTTEN_ITEMS, ITEMS
from scripts.environment import ROOT, spark_environment
from tests.sql.cookbook import STATEMENTS, put_answers
from tests.sql.test_register import DAY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lake(spark, model_folder, tmp_path_factory):
    """The cookbook's."""
    return put_answers(spark, tmp_path_factory.mktemp("served") / "lake", model_folder)


@pytest.fixture(scope="module")
def server(lake, tmp_path_factory):
    running = Server(lake.root, tmp_path_factory.mktemp("server"))
    running.wait_until_ready()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def jdbc():
    driver = Jdbc()
    yield driver
    driver.close()


@pytest.fixture
def connect(server, jdbc):
    """Opens clients: `connect()`; they leave after the test."""
    clients = []

    def open_client(url=server.url):
        clients.append(jdbc.connect(url))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


def test_a_jdbc_client_finds_tables_views_and_functions_in_place(connect):
    client = connect()
    assert {"items", "index_builds", "index_history"} <= {row[1] for row in client.ask("SHOW TABLES")}
    assert client.ask("SELECT count(*) FROM items") == [(40,)]
    assert client.ask("SELECT vector_norm(array(3F, 4F))") == [(5.0,)]
    found = client.ask("SELECT rank, item_id, title FROM search('red dress', 3)")
    assert [row[0] for row in found] == [1, 2, 3]
    assert found[0][2] == f"title of {found[0][1]}"
    many = client.ask("SELECT item_id FROM search_many(TABLE(SELECT 'red dress' AS query), 3)")
    assert [row[0] for row in many] == [row[1] for row in found]
    with pytest.raises(SqlError, match="expected k from 1 to 10000, got 0"):
        client.ask("SELECT * FROM search('red dress', 0)")


def test_the_cookbook_is_answered_over_jdbc(connect):
    client = connect()
    for statement in STATEMENTS:
        assert client.ask(statement), statement


def test_beeline_answers_the_cookbook(server, tmp_path):
    beeline = Path(pyspark.__file__).parent / "bin" / "beeline"
    script = tmp_path / "cookbook.sql"
    script.write_text("".join(f"{statement};\n" for statement in STATEMENTS))
    ran = subprocess.run(
        [beeline, "-u", server.url, "-n", "analyst", "--silent=true", "--outputformat=csv2", "-f", script],
        env={**spark_environment(), "SPARK_HOME": str(beeline.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "rank,score,title,category,price" in ran.stdout


def test_what_clients_of_one_server_share(server, connect):
    one, other = connect(), connect()
    one.ask("SET my.setting = of one")
    one.ask("CREATE TEMPORARY VIEW of_one AS SELECT 1 AS x")
    assert other.ask("SET my.setting") == [("my.setting", "of one")]
    assert other.ask("SELECT x FROM of_one") == [(1,)]
    one.ask("DROP VIEW of_one")
    # Who connects to another database moves everybody there; names with their database go on to work.
    connect(f"{server.url.removesuffix('make')}default")
    assert other.ask("SELECT current_database()") == [("default",)]
    assert other.ask("SELECT count(*) FROM make.items") == [(40,)]
    assert len(other.ask("SELECT * FROM search('red dress', 3)")) == 3
    one.ask("USE make")


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_no_statement_writes_the_lake(lake, server, connect, tmp_path):
    root = Path(lake.path())
    before, client = digests(root), connect()
    items = f"delta.`{lake.table_uri(ITEMS)}`"
    for statement in (
        "INSERT INTO items SELECT * FROM items",
        "DELETE FROM items",
        f"DELETE FROM {items}",
        f"INSERT INTO {items} SELECT * FROM {items}",
        f"INSERT OVERWRITE DIRECTORY '{root}/tables/items' USING parquet SELECT 1 AS x",
        f"CREATE TABLE default.stray USING parquet LOCATION '{root}/tables/stray' AS SELECT 1 AS x",
    ):
        with pytest.raises(SqlError):
            client.ask(statement)
    for statement in (
        f"DROP TABLE {items}",
        f"OPTIMIZE {items}",
        f"SELECT TRANSFORM(1) USING 'touch {root}/stray; mount -o remount,rw {root}; touch {root}/stray' AS (x)",
        f"SELECT reflect('org.apache.hadoop.fs.FileUtil', 'symLink', '/etc/hostname', '{root}/stray')",
    ):
        with suppress(SqlError):
            client.ask(statement)
    assert digests(root) == before
    assert not (root / "stray").exists()
    # The same statements do reach what the server may write.
    client.ask(f"SELECT TRANSFORM(1) USING 'touch {tmp_path}/reached; echo 1' AS (x)")
    assert (tmp_path / "reached").exists()


def test_every_answer_comes_from_one_build_while_another_is_published(lake, connect):
    query = "SELECT item_id FROM search('red dress', 20)"
    client = connect()
    new = client.ask(query)
    old = client.ask("SELECT item_id FROM search('red dress', 20, build_id => 'build-old')")
    assert set(new).isdisjoint(old)
    answers: list[list] = []
    stopped = threading.Event()

    def keep_asking(asking):
        while not stopped.is_set():
            answers.append(asking.ask(query))

    threads = [threading.Thread(target=keep_asking, args=(connect(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for build_id in ("build-old", "build-new") * 5:
        mirror_published(lake, build_id)
        time.sleep(0.5)
    stopped.set()
    for thread in threads:
        thread.join()
    assert all(answer in (old, new) for answer in answers)
    assert old in answers
    assert new in answers


def test_a_notebook_opens_the_lake_with_one_function(server):
    program = (
        "import sys; from jobs.sql.client import open_lake; spark = open_lake(sys.argv[1]);"
        "print(spark.sql(\"SELECT item_id FROM search('red dress', 3)\").count());"
        "print(spark.sql('SELECT count(*) FROM items').first()[0]);"
        "print(len(spark.sql(\"SELECT encode_query('red dress') AS v\").first().v))"
    )
    assert run_notebook(server, "-c", program, f"sc://127.0.0.1:{server.connect_port}").splitlines() == [
        "3",
        "40",
        "32",
    ]


def test_the_example_draws_weights_and_neighbours(server, tmp_path):
    run_notebook(server, str(ROOT / "examples" / "photos_and_words.py"), folder=tmp_path)
    for name in ("photo-weights.png", "neighbours.png"):
        with Image.open(tmp_path / name) as picture:
            red, green, blue = np.asarray(picture.convert("RGB"), dtype=int).reshape(-1, 3).T
            assert ((abs(red - green) > 50) | (abs(green - blue) > 50)).sum() > 100, f"{name} shows nothing"


def run_notebook(server, *arguments, folder=ROOT) -> str:
    """What a Python process of a client prints."""
    ran = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MPLBACKEND": "agg",
            "SPARK_REMOTE": f"sc://127.0.0.1:{server.connect_port}",
        },
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_tables_that_come_later_are_found(lake, spark, connect):
    client = connect()
    with pytest.raises(SqlError, match="forgotten_items"):
        client.ask("SELECT count(*) FROM forgotten_items")
    rows = spark.createDataFrame([("gone", "because", "ann", DAY, None)], FORGOTTEN_ITEMS.schema)
    lake.append(FORGOTTEN_ITEMS, rows)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with suppress(SqlError):
            assert client.ask("SELECT count(*) FROM forgotten_items") == [(1,)]
            return
        time.sleep(1)
    pytest.fail("the server did not find the table within 90 s")


def test_a_statement_ends_at_the_limits_of_time_and_size(lake, jdbc, tmp_path):
    limited = Server(lake.root, tmp_path, "--query-timeout-s=2", "--max-result-mib=1")
    limited.wait_until_ready()
    client = jdbc.connect(limited.url)
    with pytest.raises(SqlError, match="timed out"):
        client.ask("SELECT count(*) FROM range(100000) a, range(100000) b WHERE hash(a.id, b.id) = 1")
    with pytest.raises(SqlError, match="maxResultSize"):
        client.ask("SELECT id, uuid() FROM range(1000000)")
    assert client.ask("SELECT count(*) FROM range(1000000)") == [(1_000_000,)]
    client.close()
    assert limited.stop() == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--lake=/nowhere"], "there is no folder /nowhere"),
        (["--host=0.0.0.0"], "is open to other machines"),
        (["--database=a-b"], "--database"),
    ],
)
def test_a_server_that_would_not_be_right_does_not_start(lake, tmp_path, options, complaint):
    server = Server(lake.root, tmp_path, *options)
    assert server.process.wait(60) == 1
    assert complaint in server.process.stderr.read() + server.words
