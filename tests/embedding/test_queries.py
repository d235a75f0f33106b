"""The head queries' vectors follow the log's window, and only new queries meet the model."""

import datetime as dt

import numpy as np

from jobs.embedding import queries as job
from jobs.embedding.inference import open_encoder
from schemas import QUERY_EMBEDDINGS, QUERY_EVENTS

DAY = dt.date(2026, 11, 2)


def log(lake, spark, *events: tuple[str, dt.date, str]) -> None:
    rows = [
        (f"e{n}", date, dt.datetime.combine(date, dt.time()), "s", query, "a", kind, 1)
        for n, (query, date, kind) in enumerate(events)
    ]
    lake.replace(QUERY_EVENTS, spark.createDataFrame(rows, QUERY_EVENTS.schema))


def test_the_table_holds_the_head_and_a_second_run_embeds_only_what_is_new(lake, spark, promoted_model, run_job):
    before = DAY - dt.timedelta(days=1)
    log(
        lake,
        spark,
        *[("red dress", DAY, "impression")] * 3,
        *[("blue shirt", before, "impression")] * 2,
        ("hat", DAY, "impression"),
        ("clicked only", DAY, "click"),
        ("too old", DAY - dt.timedelta(days=2), "impression"),
    )
    options = {"date": DAY, "window_days": 2, "max_queries": 2}
    assert run_job(job, **options)["rows_out"] == 2
    stored = {row["query"]: row for row in lake.read(QUERY_EMBEDDINGS).collect()}
    assert {query: row["impressions"] for query, row in stored.items()} == {"red dress": 3, "blue shirt": 2}
    expected = open_encoder(lake.path("models", promoted_model), 1).embed_queries(["red dress"])[0]
    np.testing.assert_allclose(stored["red dress"]["embedding"], expected, atol=1e-5)

    version = lake.version(QUERY_EMBEDDINGS)
    assert run_job(job, **options)["verdict"] == "unchanged"
    assert lake.version(QUERY_EMBEDDINGS) == version
    assert run_job(job, **options | {"max_queries": 3})["rows_out"] == 1
    assert {row["query"] for row in lake.read(QUERY_EMBEDDINGS).collect()} == {"red dress", "blue shirt", "hat"}
    stands = lake.version(QUERY_EMBEDDINGS)
    assert run_job(job, **options | {"date": before, "max_queries": 3})["verdict"] == "unchanged"
    assert lake.version(QUERY_EMBEDDINGS) == stands, "an older date's head took the place of the newer one's"
