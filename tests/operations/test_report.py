"""The page tells a night to a person, whatever the night was."""

import datetime as dt
import hashlib
import re
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from delta.tables import DeltaTable
from prometheus_client.parser import text_string_to_metric_families

from jobs.index import build as index_build
from jobs.operations import forget, report
from jobs.operations.contact_sheet import sample_queries
from jobs.operations.traces import items_on_page
from schemas import INDEX_BUILDS, ITEMS, JOB_RUNS, QUERY_EMBEDDINGS
from tests.builds import put_build, rewrite_items
from tests.operations.nights import BEFORE, MODEL, NIGHT, SCRIPT, job_run
from tests.pages import Tags
from tests.photos import jpeg


def page_of(lake, record) -> str:
    return lake.fs.cat_file(lake.path("reports", record["run_id"], "index.html")).decode()


def test_a_night_with_a_published_build_shows_its_items_photos_and_weights(night_lake, run_job, tmp_path):
    assert run_job(index_build, date=NIGHT.isoformat())["verdict"] == "succeeded"
    names = {"gate": "'drift'", "figure": "0.004D", "bound": "0.01D", "passed": "true", "blocking": "true"}
    fields = ", ".join(f"{value} AS {name}" for name, value in (names | {"detail": "'largest'"}).items())
    gates = f"array(struct({fields}))"
    night_lake.delta(INDEX_BUILDS).update(set={"status": "'published'", "published_at": "built_at", "gates": gates})
    metrics = tmp_path / "make.prom"
    options = {"run_id": "scheduled__2026-11-02T01:00:00+00:00", "metrics_file": metrics}
    record = run_job(report, date=NIGHT.isoformat(), **options)
    assert record["verdict"] == "succeeded", record["notes"]
    html = page_of(night_lake, record)
    tags = Tags(html)
    assert html.count("data:image/jpeg;base64,") == 2 * 3  # two readable photos, for places 1, 2 and 4
    assert html.count('<div class="photo"><span>no photo') == 2 * 3
    assert "No build was published before, so there is nothing to compare." in html
    assert "place 4" in html
    assert "script" not in tags.names
    assert "&lt;script&gt;alert" in html
    assert all(address.startswith(("data:", "#")) for address in tags.addresses)
    assert "url(http" not in html
    assert "@import" not in html
    assert "title 80 %, photo 20 %" in html
    assert 'aria-label="How near each gate is to its bound"' in html
    assert "drift  0.004 (≤ 0.01)" in html
    assert "a note of the night before" not in html
    assert "1 setback on the way" in html
    assert "failed: lacks &lt;b&gt;items&lt;/b&gt;" in html
    assert items_on_page(html, ["run-of-noon", "noon"]) == set()
    assert "&lt;img src=x&gt;" in html
    assert record["figures"]["bytes"] == len(html.encode())
    found = samples(metrics)
    assert found["make_night_date_seconds", ()] == dt.datetime(2026, 11, 2, tzinfo=dt.UTC).timestamp()
    assert found["make_gate_figure", ("drift",)] == 0.004
    assert found["make_gate_holds", ("true", "drift")] == 1
    assert sum(found["make_night_light", (light,)] for light in ("green", "amber", "red")) == 1
    assert found["make_items", ("active",)] == night_lake.read(ITEMS).where("is_active").count()


HOSTILE = '"></li><li title="gone: x"><img src=x onerror=alert(1)>'


@pytest.fixture
def two_builds(night_lake, spark):
    """The lake with a published build and the one before it, of four items each; query n finds the n-th.

    One item came, with a hostile title, and one went; one has another title and photo, one another category, one
    another price.
    """
    red, blue = (hashlib.sha256(jpeg(colour)).hexdigest() for colour in ("red", "blue"))
    before = [
        ("new", "new item", "dress", 9.5, red),
        ("changed", "changed item", "dress", 9.5, blue),
        ("same", "same item", "hat", None, None),
        ("script", SCRIPT, None, 9.5, None),
    ]
    after = [
        ("new", "new item", "dress", 1234.5, red),
        ("changed", "another title", "dress", 9.5, red),
        ("arrived", HOSTILE, "hat", None, None),
        ("script", SCRIPT, "hat <b>", 9.5, None),
    ]
    vectors = np.eye(4, dtype=np.float32)
    for build_id, date, status, items in (
        ("build-before", BEFORE, "superseded", before),
        ("build-after", NIGHT, "published", after),
    ):
        put_build(night_lake, spark, build_id, date, status, vectors, MODEL, shards=1)
        rewrite_items(Path(night_lake.path("indexes", build_id)), partial(told_as, items))
    return night_lake


def told_as(rows: list[tuple], items: pa.Table) -> pa.Table:
    """The items "0", "1", ... of a made-up build as the rows tell them."""
    names = ("item_id", "title", "category", "price", "image_sha256")
    told = [item | dict(zip(names, rows[int(item["item_id"])], strict=True)) for item in items.to_pylist()]
    return pa.Table.from_pylist(told, schema=items.schema)


def section(html: str, name: str) -> str:
    """One part of the page."""
    start = html.index(f'<section id="{name}">')
    return html[start : html.index("</section>", start)]


def test_the_page_shows_what_changed_since_the_build_before_and_a_takedown_finds_it_there(two_builds, run_job):
    record = run_job(report, date=NIGHT.isoformat())
    assert record["verdict"] == "succeeded", record["notes"]
    html = page_of(two_builds, record)
    tags = Tags(html)
    assert "script" not in tags.names
    assert all(address.startswith(("data:", "#")) for address in tags.addresses)
    changes = section(html, "changes")
    counts = re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", changes)
    kinds = ("came", "went", "other title", "other photo", "other category", "other price")
    assert counts == [(kind, "1") for kind in kinds] + [("the same", "0")]
    shown = re.findall(r'<li title="(\w+):', changes)
    assert shown == ["arrived", "same", "changed", "changed", "script", "new"]
    assert '<div class="title">another title</div><del class="title">changed item</del>' in changes
    assert "<del>none</del> hat &lt;b&gt;" in changes
    assert "<del>9.50</del></span><span>1,234.50</span>" in changes
    # Once with its other title, once with both photos.
    photos = re.findall(r'alt="(\w+(?: photo)?) of (?:another title|changed item)"', changes)
    assert photos == ["Photo", "Earlier photo", "Photo"]
    answers = section(html, "answers")
    headings = re.findall(r"<h3>(query \d)<small>.*?times(.*?)</small>", answers)
    assert headings == [
        ("query 0", " · 1 new, 1 lost"),
        ("query 1", " · 1 new, 1 lost"),
        ("query 3", " · 1 new, 1 lost"),
    ]
    assert answers.count('<span>no photo</span><span class="new">new</span>') == 3
    assert re.search(r'<li title="same: same item">.*?no longer held', answers, flags=re.DOTALL)
    # Whatever its title says, an item is found by its id, and no other is.
    everything = ["new", "changed", "same", "script", "arrived", "gone", "gone before"]
    assert items_on_page(changes, everything) == {"arrived", "same", "changed", "script", "new"}
    taken = run_job(forget, date=NIGHT.isoformat(), item_ids=["same"], reason="r", requested_by="ann")
    assert taken["verdict"] == "succeeded", taken["notes"]
    assert not two_builds.fs.exists(two_builds.path("reports", record["run_id"], "index.html"))
    html = page_of(two_builds, run_job(report, date=NIGHT.isoformat()))
    assert "is gone: its folder went with age, or with an item that was taken down." in section(html, "changes")
    assert items_on_page(html, everything) == {"arrived", "changed", "script", "new"}


def test_answers_of_another_model_are_compared_where_it_knows_the_query(two_builds, spark, run_job):
    manifest = Path(two_builds.path("indexes", "build-before", "manifest.json"))
    manifest.write_text(manifest.read_text().replace(MODEL, "make-of-old"))
    two_builds.delta(INDEX_BUILDS).update("status = 'superseded'", {"model_version": "'make-of-old'"})
    query = ("query 0", "make-of-old", [0.0, 1.0, 0.0, 0.0], 1, "night")
    two_builds.append(QUERY_EMBEDDINGS, spark.createDataFrame([query], QUERY_EMBEDDINGS.schema))
    html = page_of(two_builds, run_job(report, date=NIGHT.isoformat(), results_per_query=1))
    assert "another model's, <code>make-of-old</code>" in section(html, "changes")
    headings = re.findall(r"<h3>(query \d)<small>.*?times(.*?)</small>", section(html, "answers"))
    assert headings == [("query 0", " · 1 new, 1 lost"), ("query 1", ""), ("query 3", "")]
    assert ">drift<" not in section(html, "categories")


def test_a_build_before_that_cannot_be_read_costs_the_comparison_alone(two_builds, run_job):
    Path(two_builds.path("indexes", "build-before", "manifest.json")).write_text("{}")
    record = run_job(report, date=NIGHT.isoformat())
    assert record["verdict"] == "succeeded", record["notes"]
    html = page_of(two_builds, record)
    assert "build-before cannot be read" in section(html, "changes")
    assert "place 4" in section(html, "answers")
    rows = re.findall(r'<tr><th scope="row"[^>]*>(.*?)</th>(.*?)</tr>', section(html, "categories"), flags=re.DOTALL)
    cells = {name: re.findall(r"[^<>\s][^<>]*(?=</)", of) for name, of in rows}
    assert cells == {
        #        items, no photo, broken photo, new, changed, gone, refused
        "dress": ["2", "0", "0", "50.0 %", "50.0 %", "0", "0"],
        "(no category)": ["1", "0", "0", "0", "0", "0", "66.7 %"],
        "hat": ["1", "100.0 %", "0", "0", "0", "50.0 %", "0"],
        "all categories": ["4", "25.0 %", "0", "25.0 %", "25.0 %", "20.0 %", "33.3 %"],
    }


def samples(file) -> dict[tuple[str, tuple[str, ...]], float]:
    """What Prometheus reads: name and values of labels, by the labels' names, to the figure."""
    families = text_string_to_metric_families(file.read_text())
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_an_older_night_leaves_the_figures_of_a_later_one_alone(night_lake, run_job, tmp_path):
    metrics = tmp_path / "make.prom"
    run_job(report, date="2026-11-01", metrics_file=metrics)
    assert not metrics.exists()


def test_a_lake_where_nothing_ever_ran_gets_a_page_that_says_so(lake, run_job):
    record = run_job(report, date=NIGHT.isoformat())
    assert record["verdict"] == "succeeded", record["notes"]
    html = page_of(lake, record)
    assert "<h1>Night of 2 November 2026</h1>" in html
    assert "no run is recorded of catalog ingest" in html
    assert "There are no vectors: no promoted model" in html
    assert "No build is published, so there is nothing to search." in html
    assert "No row was rejected." in html
    assert "The catalog is empty." in html
    assert SCRIPT not in html


def test_a_failed_night_leads_with_what_failed_and_the_report_writes_no_table_but_job_runs(lake, spark, run_job):
    failed = job_run("catalog ingest", verdict="failed", notes=["the snapshot lacks 900 of 1,000 <items>"])
    lake.append(JOB_RUNS, spark.createDataFrame([failed], JOB_RUNS.schema))
    run_job(report, date=NIGHT.isoformat())
    versions = table_versions(lake)
    html = page_of(lake, run_job(report, date=NIGHT.isoformat()))
    after = table_versions(lake)
    assert {name for name in after if after[name] != versions[name]} == {"job_runs"}
    header = html[html.index("<header>") : html.index("</header>")]
    assert 'class="verdict red"' in header
    assert "the snapshot lacks 900 of 1,000 &lt;items&gt;" in header


def table_versions(lake) -> dict[str, int]:
    folders = [path.rsplit("/", 1)[-1] for path in lake.fs.ls(lake.path("tables"), detail=False)]
    tables = {name: DeltaTable.forPath(lake._spark, lake.uri("tables", name)) for name in folders}
    return {name: table.history(1).first()["version"] for name, table in tables.items()}


def test_sample_queries_are_spread_over_the_head_and_the_same_every_time(night_lake):
    queries = sample_queries(night_lake.read(QUERY_EMBEDDINGS), model_version=MODEL, count=6)
    assert [(q.place, q.query, q.impressions) for q in queries] == [
        (1, "query 0", 100),
        (2, "query 1", 99),
        (4, "query 3", 97),
    ]
    assert not sample_queries(night_lake.read(QUERY_EMBEDDINGS), model_version="other", count=6)
