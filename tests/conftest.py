"""Fixtures that all tests share: one Spark session, and a fresh lake a test."""

import functools
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory):
    """The one session of the test run, sized for tiny data."""
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("MAKE_LOG_DIR", str(tmp_path_factory.mktemp("logs")))
    from benchmarks.lakes import FOR_TINY_TABLES
    from jobs.core.session import open_session

    session = open_session("tests", FOR_TINY_TABLES)
    yield session
    session.stop()


@pytest.fixture
def lake(spark, tmp_path: Path):
    """An empty lake."""
    from jobs.core.lake import Lake

    return Lake(spark, str(tmp_path / "lake"))


@pytest.fixture(scope="session")
def run_job_in(spark):
    """Runs a job in the shared session against any lake: `run_job_in(lake, module, date="2026-11-01", ...)`.

    Returns the job's record as a Row of job_runs; a failed or skipped run returns its record too.
    """
    from benchmarks.lakes import run_in_session

    return run_in_session


@pytest.fixture
def run_job(lake, run_job_in):
    """`run_job_in` against the test's lake: `run_job(module, date="2026-11-01", ...)`."""
    return functools.partial(run_job_in, lake)


@pytest.fixture(scope="session")
def fashion() -> Path:
    """The folder of the real catalog; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("MAKE_TEST_DATA", ROOT.parent / "shared" / "data")) / "fashion"
    if not folder.is_dir():
        pytest.skip(f"needs the real catalog at {folder} (set MAKE_TEST_DATA to its parent folder)")
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model folder, its weights random: enough for whatever does not ask how good the vectors are."""
    import datetime as dt

    import torch

    from models.make.configuration_make import preset_config
    from models.make.modeling_make import MakeModel
    from models.make.processing_make import MakeProcessor
    from models.training.checkpoint import save_model_folder

    torch.manual_seed(0)
    config = preset_config("tiny", hidden_size=32, embedding_dim=32, vocab_size=1024, image_height=32, image_width=32)
    processor = MakeProcessor.for_config(config, ["red dress", "blue shirt"])
    folder = tmp_path_factory.mktemp("model")
    save_model_folder(folder, MakeModel(config), processor, trained_on=dt.date(2026, 11, 1), card="# A test's model\n")
    return folder


@pytest.fixture
def promoted_model(lake, spark, model_folder: Path) -> str:
    """The version of `model_folder`, put into the test's lake and promoted."""
    from tests.lakes import put_promoted_model

    return put_promoted_model(lake, spark, model_folder)
