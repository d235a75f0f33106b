"""Three nights through Airflow, each disturbed for real, end as if nothing had been; benchmarks/ has fourteen."""

import datetime as dt
from random import Random

import pytest

from benchmarks.daily_market import DailyMarket
from benchmarks.disturbed_nights import disturb
from benchmarks.plain_nights import night_by_jobs
from jobs.core.lake import Lake
from tests.lakes import put_promoted_model

FAULTS = ("snapshot cut off", "driver killed", "log delivered twice")
# The first night is as it should be: before it there is nothing that half a snapshot could be told by.
DATES = [dt.date(2026, 3, 1) + dt.timedelta(days=day) for day in range(1 + len(FAULTS))]


@pytest.mark.slow
def test_disturbed_nights_end_as_undisturbed_ones_publish_nothing_half_and_say_what_happened(
    spark, model_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("MAKE_LOG_DIR", str(tmp_path / "logs"))
    market = DailyMarket(tmp_path / "market", DATES, seed=18)
    twin = Lake(spark, str(tmp_path / "twin"))
    market.deliver(twin, items=100)
    put_promoted_model(twin, spark, model_folder)
    night_by_jobs(twin, market, DATES[0], judged={})
    outcome = disturb(spark, tmp_path, market, twin, FAULTS, random=Random(18), judged={})
    assert outcome.differing == []
    assert len(outcome.published) == len(DATES)
    for night in outcome.nights:
        assert night.hit, night
        assert night.told, night
        assert night.published == "", night
    assert [night.tries > 0 for night in outcome.nights] == [True, True, False]
