"""The training set of the model's tests, with its products as a catalog and its queries judged; a build of vectors."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.clustered import ClusteredVectors
from benchmarks.vector_lake import MODEL, NIGHT, only_build, put_vectors
from jobs.core.lake import Lake
from jobs.index import build
from tests.models.conftest import COLOURS, GARMENTS, MODELS_PER_GARMENT, catalog, training_set

__all__ = ["training_set"]

CLUSTERED_ITEMS = 3_000


@pytest.fixture(scope="session")
def inputs(training_set: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the ablations read, by option: every item that has a photo's address, and every colour of every garment."""
    folder = tmp_path_factory.mktemp("judged")
    items = catalog()
    queries = [f"{colour} {garment}" for colour in COLOURS for garment in GARMENTS]
    tables = {
        "catalog": [
            {
                "item_id": item["item_id"],
                "title": item["title"],
                "image_uri": item["item_id"] if item["photo"] else None,
            }
            for item in items
        ],
        "images": [{"image_uri": item["item_id"], "content": item["photo"]} for item in reversed(items)],
        "judged_queries": [
            {"query_id": query, "query": query, "wording": "plain" if query < "m" else "colloquial"}
            for query in queries
        ],
        "judgments": [
            {"query_id": query, "item_id": f"{query.replace(' ', '-')}-{number}", "cold": number == 0}
            for query in queries
            for number in range(MODELS_PER_GARMENT)
        ],
    }
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return {"training_set": training_set, **{name: folder / f"{name}.parquet" for name in tables}}


@pytest.fixture(scope="session")
def clustered() -> ClusteredVectors:
    """What the vectors of `clustered_build` are drawn from."""
    return ClusteredVectors(dimension=16)


@pytest.fixture(scope="session")
def clustered_lake(spark, run_job_in, clustered: ClusteredVectors, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of so many clustered vectors, and the build of them."""
    lake = Lake(spark, str(tmp_path_factory.mktemp("clustered") / "lake"))
    put_vectors(lake, clustered, CLUSTERED_ITEMS)
    assert run_job_in(lake, build, date=NIGHT, model_version=MODEL)["verdict"] == "succeeded"
    return lake


@pytest.fixture(scope="session")
def clustered_build(clustered_lake: Lake) -> Path:
    """The folder of that build."""
    return only_build(Path(clustered_lake.path()))
