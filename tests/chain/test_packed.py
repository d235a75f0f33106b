"""What docs/cluster.md says: spark-submit with a packed environment of the wheel, and nothing else on the nodes."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from benchmarks.processes import standalone_cluster
from jobs.core.lake import Lake
from jobs.index.searcher import Searcher
from schemas import INDEX_BUILDS, ITEM_EMBEDDINGS, JOB_RUNS
from scripts import pack
from scripts.environment import spark_environment
from tests.embedding.products import DAY, put_items
from tests.lakes import put_promoted_model
from tests.photos import jpeg, truncated_jpeg

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """The packed environment; of packages that are not the project's it has the way to this machine's."""
    folder = tmp_path_factory.mktemp("packed")
    made = folder / "environment"
    pack.make_environment(made, pack.build_wheel(folder), None)
    (site_packages,) = made.glob("lib/python3*/site-packages")
    (site_packages / "pinned.pth").write_text(sysconfig.get_path("purelib"))
    file = folder / pack.ARCHIVE
    pack.archive(made, file)
    return file


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with standalone_cluster(tmp_path_factory.mktemp("cluster"), with_code=False) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def lake(spark, model_folder, tmp_path_factory) -> Lake:
    folder = tmp_path_factory.mktemp("shared") / "lake"
    lake = Lake(spark, str(folder))
    put_promoted_model(lake, spark, model_folder)
    photos = [jpeg("red"), jpeg("green"), truncated_jpeg("red"), None]
    put_items(lake, spark, *((f"item {n:03}", f"dress {n}", photos[n % 4]) for n in range(200)))
    return lake


@pytest.fixture
def submit(environment, cluster, lake, tmp_path):
    """Submits a job's file from a folder that has nothing of the project, with the environment's own Python."""
    driver = tmp_path / "driver"
    shutil.unpack_archive(environment, driver)
    inherited = {**spark_environment(), "SPARK_CONF_DIR": str(cluster.conf_dir), "MAKE_LOG_DIR": str(tmp_path / "logs")}
    for name in ("PYTHONPATH", "PYSPARK_SUBMIT_ARGS", "PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET"):
        inherited.pop(name, None)
    inherited |= {"PYSPARK_DRIVER_PYTHON": str(driver / "bin" / "python"), "PYSPARK_PYTHON": "./environment/bin/python"}
    (installed,) = driver.glob("lib/python3*/site-packages/jobs")

    def submit(job: str) -> None:
        command = [Path(inherited["SPARK_HOME"]) / "bin" / "spark-submit", f"--archives={environment}#environment"]
        command += [installed / job, f"--date={DAY}", f"--lake={lake.root}"]
        done = subprocess.run(command, env=inherited, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return submit


def test_a_packed_environment_embeds_and_indexes_on_a_cluster(lake, submit, cluster):
    submit("embedding/items.py")
    vectors = {row["item_id"]: row["embedding"] for row in lake.read(ITEM_EMBEDDINGS).collect()}
    assert len(vectors) == 200
    submit("index/build.py")
    (build,) = lake.read(INDEX_BUILDS).collect()
    searcher = Searcher.open(lake.uri("indexes", build["build_id"]))
    asked = np.array([vectors["item 007"]], dtype=np.float32)
    nearest = searcher.items(["item_id"]).take(searcher.search(asked, 1).rows[0])["item_id"].to_pylist()
    assert vectors[nearest[0]] == pytest.approx(vectors["item 007"], abs=1e-5)
    assert {row["verdict"] for row in lake.read(JOB_RUNS).collect()} == {"succeeded"}
    unpacked = list(cluster.folder.glob("worker-*/app-*/*/environment/lib/python3*/site-packages/jobs/core"))
    assert unpacked, "the executors had the environment from somewhere else"
