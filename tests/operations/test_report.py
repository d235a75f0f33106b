"""The page tells a night to a person, whatever the night was."""

import datetime as dt

from delta.tables import DeltaTable
from prometheus_client.parser import text_string_to_metric_families

from jobs.index import build as index_build
from jobs.operations import report
from jobs.operations.contact_sheet import sample_queries
from schemas import INDEX_BUILDS, ITEMS, JOB_RUNS, QUERY_EMBEDDINGS
from tests.operations.nights import MODEL, NIGHT, SCRIPT, job_run
from tests.pages import Tags


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
    assert html.count('<div class="photo">no photo') == 2 * 3
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
    assert "&lt;img src=x&gt;" in html
    assert record["figures"]["bytes"] == len(html.encode())
    found = samples(metrics)
    assert found["make_night_date_seconds", ()] == dt.datetime(2026, 11, 2, tzinfo=dt.UTC).timestamp()
    assert found["make_gate_figure", ("drift",)] == 0.004
    assert found["make_gate_holds", ("true", "drift")] == 1
    assert sum(found["make_night_light", (light,)] for light in ("green", "amber", "red")) == 1
    assert found["make_items", ("active",)] == night_lake.read(ITEMS).where("is_active").count()


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
