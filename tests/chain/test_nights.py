"""The whole chain on tiny data: two nights over a generated catalog, every job real, and nothing done twice."""

import datetime as dt

import pytest
from pyspark.sql import functions as F

from jobs.catalog import generate
from jobs.catalog import ingest as catalog_ingest
from jobs.embedding import items as embed_items
from jobs.embedding import queries as embed_queries
from jobs.index import build, check, publish
from jobs.index.search import open_searcher
from jobs.operations import report
from jobs.query_log import ingest as log_ingest
from jobs.query_log import pairs
from jobs.training import build_set, evaluate, promote, train
from schemas import ALL_TABLES, INDEX_BUILDS, ITEM_EMBEDDINGS, ITEMS, JOB_RUNS, MODELS, QUERY_ITEM_PAIRS, REJECTED_ROWS

FIRST = dt.date(2026, 11, 20)
SECOND = dt.date(2026, 11, 21)


class Market:
    """A generated marketplace, and the jobs run over it as the DAGs run them."""

    def __init__(self, run_job, folder) -> None:
        self._run_job = run_job
        self.folder = folder

    def source(self, night: dt.date, part: str) -> str:
        return str(self.folder / night.isoformat() / part)

    def run(self, job, night: dt.date, **options):
        record = self._run_job(job, date=night, run_id=f"{night}", **options)
        assert record["verdict"] in ("succeeded", "unchanged"), record["notes"]
        return record

    def ingest(self, night: dt.date, **window):
        catalog, images, query_log = (self.source(night, part) for part in ("catalog", "images", "query_log"))
        yield self.run(catalog_ingest, night, catalog=catalog, images=images)
        yield self.run(log_ingest, night, query_log=query_log, **window)

    def training_set(self, night: dt.date):
        yield from self.ingest(night, start=night - dt.timedelta(days=1))
        yield self.run(pairs, night, window_days=2)
        yield self.run(build_set, night, row_group_size=32)

    def training(self, night: dt.date):
        judged = {
            "judged_queries": str(self.folder / "judged_queries.parquet"),
            "judgments": str(self.folder / "judgments.parquet"),
        }
        records = list(self.training_set(night))
        records.append(self.run(train, night, epochs=1, batch_size=32))
        records.append(self.run(evaluate, night, **judged))
        records.append(self.run(promote, night))
        return records

    def night(self, night: dt.date):
        steps = (embed_items, embed_queries, build, check, publish, report)
        return [*self.ingest(night), *(self.run(step, night) for step in steps)]


@pytest.fixture
def market(run_job, tmp_path) -> Market:
    folder = tmp_path / "data"
    run_job(generate, output=str(folder), items=120, days=2, date=FIRST, seed=18)
    return Market(run_job, folder)


@pytest.mark.slow
def test_two_nights_embed_what_changed_and_a_third_run_changes_nothing(lake, market):
    catalog, log, counted, built_set, trained, *_ = market.training(FIRST)
    for record in (catalog, log, built_set):
        assert record["rows_in"] == record["rows_out"] + record["rows_rejected"]
    events = F.sum(F.col("impressions") + F.col("clicks") + F.col("purchases"))
    assert lake.read(QUERY_ITEM_PAIRS).agg(events).first()[0] == counted["rows_in"] == log["rows_out"]
    assert trained["figures"]["rows_read"] == trained["figures"]["rows_expected"]
    model = lake.read(MODELS).first()
    assert model["stage"] == "promoted"
    assert model["metrics"]["recall_at_10"] > 0

    first = market.night(FIRST)
    active = lake.read(ITEMS).where("is_active").count()
    assert [record["rows_out"] for record in first[2:5:2]] == [active, active]
    published = lake.read(INDEX_BUILDS).where("status = 'published'").collect()
    assert [row["items"] for row in published] == [active]

    hashes = dict(lake.read(ITEMS).where("is_active").select("item_id", "content_hash").collect())
    second = market.night(SECOND)
    now = dict(lake.read(ITEMS).where("is_active").select("item_id", "content_hash").collect())
    changed = [item_id for item_id, content_hash in now.items() if hashes.get(item_id) != content_hash]
    assert second[2]["rows_out"] == len(changed) > 0
    assert lake.read(INDEX_BUILDS).where("status = 'published'").first()["logical_date"] == SECOND

    tables = [table for table in ALL_TABLES if table is not JOB_RUNS]
    versions = lake.versions(*tables)
    third = market.night(SECOND)
    assert {record["verdict"] for record in third[:-1]} == {"unchanged"}
    assert lake.versions(*tables) == versions

    ids = set(open_searcher(lake, None).items(["item_id"])["item_id"].to_pylist())
    assert ids == set(now)
    assert lake.read(ITEM_EMBEDDINGS).where(F.col("item_id").isin(list(ids))).count() == len(ids)
    reasons = {row["reason"] for row in lake.read(REJECTED_ROWS).select("reason").distinct().collect()}
    assert {"empty_query", "junk_query", "future_clock", "repeated_delivery", "unknown_item"} <= reasons


@pytest.mark.slow
def test_two_workers_that_spark_starts_train_one_model_on_every_row(lake, market):
    *_, built_set = market.training_set(FIRST)
    trained = market.run(train, FIRST, epochs=1, batch_size=8, workers=2)
    rows = built_set["figures"]["rows_train"]
    assert trained["figures"]["rows_read"] == trained["figures"]["rows_expected"] == rows
    assert trained["figures"]["steps"] == -(-rows // 16)
    (model,) = lake.read(MODELS).collect()
    assert lake.fs.exists(lake.path("models", model["model_version"], "model.safetensors"))


def test_a_night_without_a_promoted_model_ingests_and_skips_the_rest(lake, market, run_job):
    assert all(record["rows_out"] > 0 for record in market.ingest(FIRST))
    for job in (embed_items, embed_queries, build):
        assert run_job(job, date=FIRST)["verdict"] == "skipped"
    assert market.run(report, FIRST)["verdict"] == "succeeded"
