"""Upkeep puts files together and removes old ones; no row, no reader and no night notices."""

import os
import time
from pathlib import Path
from urllib.parse import urlsplit

from jobs.core.lease import held_lease
from jobs.embedding import items as nightly
from jobs.embedding.vectors import lease_name
from jobs.operations import optimize as job
from schemas import ALL_TABLES, ITEM_EMBEDDINGS, ITEMS, JOB_RUNS
from tests.embedding.products import DAY, put_items, vectors

OTHERS = [table for table in ALL_TABLES if table is not JOB_RUNS]


def files_of(lake, table) -> set[Path]:
    """Files that the newest version needs."""
    return {Path(urlsplit(file).path) for file in lake.read(table).inputFiles()}


def on_disk(lake, table) -> set[Path]:
    return set(Path(lake.path("tables", table.name)).rglob("*.parquet"))


def test_small_files_become_few_and_old_ones_go_while_rows_and_nights_stay_as_they_are(
    lake, spark, run_job, promoted_model
):
    for item in "abc":
        put_items(lake, spark, (item, f"red dress {item}", None))
        run_job(nightly, date=DAY)
    rows, before = vectors(lake), files_of(lake, ITEM_EMBEDDINGS)
    assert len(before) >= 3

    record = run_job(job, date=DAY)
    assert record["figures"]["files_compacted"] >= len(before) + len(on_disk(lake, ITEMS)) - 1
    assert record["figures"]["files_vacuumed"] == 0
    (compacted,) = files_of(lake, ITEM_EMBEDDINGS)
    assert on_disk(lake, ITEM_EMBEDDINGS) >= {compacted, *before}
    assert vectors(lake) == rows
    versions = lake.versions(*OTHERS)
    assert run_job(job, date=DAY)["verdict"] == "unchanged"
    assert run_job(nightly, date=DAY)["verdict"] == "unchanged"
    assert lake.versions(*OTHERS) == versions

    # What a killed task has left, long ago and just now.
    old, young = (Path(lake.path("tables", ITEM_EMBEDDINGS.name, f"{name}.parquet")) for name in ("old", "young"))
    for file in (old, young):
        file.write_bytes(compacted.read_bytes())
    os.utime(old, (time.time() - 30 * 86_400 - 60,) * 2)
    assert run_job(job, date=DAY, history_days=31)["verdict"] == "unchanged"
    assert run_job(job, date=DAY)["figures"]["files_vacuumed"] == 1
    assert on_disk(lake, ITEM_EMBEDDINGS) >= {compacted, young, *before}
    assert not old.exists()
    assert vectors(lake) == rows


def test_vectors_that_are_being_written_are_left_alone(lake, spark, run_job, promoted_model):
    put_items(lake, spark, ("a", "red dress", None))
    run_job(nightly, date=DAY)

    class Holder:
        run_id, name, note = "another", "embedding backfill", print

    Holder.lake = lake
    before = lake.version(ITEM_EMBEDDINGS)
    with held_lease(Holder, lease_name(promoted_model)):
        record = run_job(job, date=DAY)
    assert record["verdict"] == "failed"
    assert "run another" in record["notes"][-1]
    assert lake.version(ITEM_EMBEDDINGS) == before
