"""With a Hive metastore in PostgreSQL the database and its views last, and sessions at once see the same."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyspark
import pytest

from benchmarks.processes import free_port
from schemas import ITEMS
from scripts.environment import ROOT, SPARK_PROPERTIES, spark_environment
from tests.sql.test_register import item

pytestmark = pytest.mark.slow

_JARS = Path(pyspark.__file__).parent / "jars"
_DRIVER = "ivy://org.postgresql:postgresql:42.7.7?transitive=false"
# PostgreSQL refuses to run as root.
_SERVER_USER = "postgres"


def create_schema(folder: Path, driver: str, properties: dict[str, str]) -> None:
    """Create the metastore's tables at once, as docs/sql.md says."""
    (hive,) = _JARS.glob("hive-metastore-*.jar")
    with zipfile.ZipFile(hive) as jar:
        jar.extract("package.jdo", folder)
    (folder / "jdo.properties").write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    tool = ["java", "-cp", f"{_JARS}/*:{driver}", "org.datanucleus.store.schema.SchemaTool", "-create", "-api", "JDO"]
    command = [*tool, "-props", "jdo.properties", "package.jdo"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def metastore(spark, tmp_path_factory):
    """Settings of Spark for a metastore in a PostgreSQL server of its own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = found[-1] if found else shutil.which("initdb")
    if initdb is None:
        pytest.skip("needs a PostgreSQL server (initdb was not found)")
    folder, port = tmp_path_factory.mktemp("metastore"), free_port()
    as_server = ["setpriv", f"--reuid={_SERVER_USER}", f"--regid={_SERVER_USER}", "--clear-groups"]
    if os.geteuid() == 0:
        for parent in (folder, *folder.parents[: len(folder.parents) - 1]):
            parent.chmod(parent.stat().st_mode | 0o711)
        shutil.chown(folder, _SERVER_USER, _SERVER_USER)
    else:
        as_server = []
    run = {"check": True, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    data, programs = str(folder / "data"), Path(initdb).resolve().parent
    subprocess.run([*as_server, programs / "initdb", "--username=hive", "--auth=trust", f"--pgdata={data}"], **run)
    listening = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    subprocess.run(
        [*as_server, programs / "pg_ctl", "start", f"--pgdata={data}", "--wait", f"--options={listening}"], **run
    )
    try:
        jvm = spark._jvm
        (driver,) = jvm.scala.jdk.javaapi.CollectionConverters.asJava(
            jvm.org.apache.spark.util.DependencyUtils.resolveMavenDependencies(jvm.java.net.URI(_DRIVER))
        )
        of_server = ["--host=127.0.0.1", f"--port={port}", "--username=hive"]
        subprocess.run([programs / "createdb", *of_server, "metastore"], **run)
        settings = {
            "javax.jdo.option.ConnectionURL": f"jdbc:postgresql://127.0.0.1:{port}/metastore",
            "javax.jdo.option.ConnectionDriverName": "org.postgresql.Driver",
            "javax.jdo.option.ConnectionUserName": "hive",
            "javax.jdo.option.ConnectionPassword": "unused",
        }
        create_schema(folder, driver, {**settings, "datanucleus.identifierFactory": "datanucleus1"})
        yield {
            "spark.sql.catalogImplementation": "hive",
            "spark.sql.warehouse.dir": str(folder.parent / "warehouse"),
            "spark.driver.extraClassPath": driver,
            "spark.hadoop.hive.metastore.schema.verification": "false",
            **{f"spark.hadoop.{name}": value for name, value in settings.items()},
        }
    finally:
        subprocess.run([*as_server, programs / "pg_ctl", "stop", f"--pgdata={data}", "--mode=immediate"], **run)


@pytest.fixture
def ask(lake, metastore, tmp_path):
    """Answers one statement in a session of its own: `ask("SELECT ...")` gives rows as dicts."""
    conf = tmp_path / "conf"
    conf.mkdir()
    settings = "".join(f"{name} {value}\n" for name, value in metastore.items())
    (conf / "spark-defaults.conf").write_text(SPARK_PROPERTIES.read_text() + settings)

    def answer(query):
        environment = {
            **spark_environment(),
            "SPARK_CONF_DIR": str(conf),
            "MAKE_LAKE": lake.root,
            "MAKE_LOG_DIR": str(tmp_path / "logs"),
        }
        del environment["PYSPARK_SUBMIT_ARGS"]  # of the tests' own session
        told = subprocess.run(
            [sys.executable, "-m", "jobs", "sql", "query", "--format=json", f"--query={query}"],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 0, told.stderr + (tmp_path / "logs" / "sql.log").read_text()[-3000:]
        return [json.loads(line) for line in told.stdout.splitlines()]

    return answer


def test_what_one_session_makes_is_there_in_the_next_and_in_two_at_once(lake, spark, ask):
    lake.append(ITEMS, spark.createDataFrame([item("a"), item("b")], ITEMS.schema))
    assert ask("SELECT count(*) AS items FROM items") == [{"items": 2}]
    ask("CREATE TABLE favourites USING delta AS SELECT item_id FROM items WHERE item_id = 'b'")
    assert ask("SHOW TABLES IN make LIKE 'favourites'") == [
        {"namespace": "make", "tableName": "favourites", "isTemporary": False}
    ]
    with ThreadPoolExecutor(2) as pool:
        asked = [
            "SELECT i.title FROM make.items AS i JOIN make.favourites AS f USING (item_id)",
            "SELECT vector_norm(array(3F, 4F)) AS norm FROM favourites",
        ]
        assert list(pool.map(ask, asked)) == [[{"title": "item b"}], [{"norm": 5.0}]]
