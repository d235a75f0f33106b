"""Options that name what comes once a day."""

import pytest

from jobs.catalog.ingest import Options as CatalogOptions
from jobs.core.options import parse_options
from jobs.query_log.ingest import Options as QueryLogOptions


def test_a_daily_source_is_that_of_the_runs_date(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAKE_CATALOG", "/landing/{date}/catalog")
    monkeypatch.setenv("MAKE_QUERY_LOG", "s3a://logs/{date}.parquet")
    options = parse_options(CatalogOptions, ["--date=2026-11-20", "--images=/photos/{date}"])
    assert (options.catalog, options.images) == ("/landing/2026-11-20/catalog", "/photos/2026-11-20")
    assert parse_options(CatalogOptions, ["--date=2026-11-20", "--images=/photos"]).images == "/photos"
    assert parse_options(QueryLogOptions, ["--date=2026-11-20"]).query_log == "s3a://logs/2026-11-20.parquet"
