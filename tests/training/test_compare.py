"""Two models on the same queries: differences are paired, and the page shows who wins what."""

import datetime as dt
import json
import re
import shutil
from pathlib import Path

import pytest

from jobs.training import compare, evaluate, report
from jobs.training.compare import compare_slices, widest_gaps
from jobs.training.slices import JudgedQuery, RelevantItem, cut_slices
from models.training.checkpoint import load_model_folder, save_model_folder
from schemas import ITEM_IMAGES, ITEMS, JUDGED_RESULTS, MODELS, PHOTO_WEIGHTS, QUERY_ITEM_PAIRS
from tests.pages import Tags
from tests.photos import jpeg

DAY = dt.date(2026, 11, 1)
DUEL = re.compile(r"nDCG@10 ([\d.]+) → ([\d.]+)")
HOSTILE = "<script>alert('title')</script>"
TITLES = {"i1": "red dress", "i2": f"blue shirt {HOSTILE}", "i3": "red shoes", "i4": "white hat"}


def asked(count: int) -> list[JudgedQuery]:
    item = {"i1": RelevantItem("red dress", None, traffic="head")}
    return [JudgedQuery(f"q{n}", "red dress", {}, item) for n in range(count)]


@pytest.mark.parametrize(("won", "verdict"), [(40, "better"), (0, "open"), (-40, "worse")])
def test_a_difference_is_decided_when_its_whole_interval_is(won: int, verdict: str):
    hit, miss = ["i1"], ["i2"]
    base = [hit if n % 2 else miss for n in range(200)]
    other = [
        hit if won > 0 and n < 2 * won else miss if won < 0 and n < -2 * won else ranked
        for n, ranked in enumerate(base)
    ]
    difference = compare_slices(cut_slices(asked(200)), base, other)["all"]["recall_at_10"]
    assert difference.change == pytest.approx(won / 200)
    assert difference.lower <= difference.change <= difference.upper
    assert difference.verdict == verdict


def test_gaps_are_the_widest_first_and_ties_are_neither():
    queries = asked(4)
    champion = [["i1"], ["x", "i1"], ["x"], ["i1"]]
    challenger = [["x"], ["i1"], ["i1"], ["i1"]]
    assert widest_gaps(queries, champion, challenger, count=5) == ([2, 1], [0])
    assert widest_gaps(queries, champion, challenger, count=1) == ([2], [0])


@pytest.fixture
def judged(lake, spark, tmp_path: Path) -> dict[str, str]:
    """A catalog of four, and three judged queries, one of which no item answers any more."""
    photo = jpeg("red")
    image = ("sha", photo, len(photo), 60, 80, "JPEG", True, None)
    lake.append(ITEM_IMAGES, spark.createDataFrame([image], ITEM_IMAGES.schema))
    shown = {"i1": "sha"}
    rows = [
        (item_id, title, None, None, None, None, None, shown.get(item_id), item_id, True, DAY, None, DAY)
        for item_id, title in TITLES.items()
    ]
    lake.append(ITEMS, spark.createDataFrame(rows, ITEMS.schema))
    queries, judgments = tmp_path / "queries.csv", tmp_path / "judgments.csv"
    queries.write_text("query_id,query,wording\nq1,red dress,plain\nq2,lid,colloquial\nq3,gloves,plain\n")
    judgments.write_text("query_id,item_id\nq1,i1\nq1,i3\nq2,i4\nq3,sold out\n")
    return {"judged_queries": str(queries), "judgments": str(judgments)}


@pytest.fixture
def challenger(lake, spark, promoted_model: str, model_folder: Path, tmp_path: Path) -> str:
    """Another model: the promoted one with its query projection turned around."""
    loaded = load_model_folder(model_folder)
    loaded.model.query_projection.weight.data.neg_()
    folder = tmp_path / "challenger"
    version = save_model_folder(folder, loaded.model, loaded.processor, trained_on=DAY, card="")["model_version"]
    lake.upload(folder, "models", version)
    shutil.rmtree(folder)
    row = lake.read(MODELS).first().asDict()
    row |= {"model_version": version, "stage": "candidate", "promoted_at": None, "metrics": {}}
    row["created_at"] = dt.datetime(2026, 11, 3, tzinfo=dt.UTC)
    lake.append(MODELS, spark.createDataFrame([row], MODELS.schema))
    return version


def test_the_newest_model_is_compared_with_the_promoted_one(lake, run_job, judged, promoted_model, challenger):
    record = run_job(compare, date=DAY, run_id="night/1", **judged, slice_by=["wording"])
    assert record["verdict"] == "succeeded", record["notes"]
    assert "1 queries have no relevant item in the catalog: left out" in record["notes"]
    page = Path(lake.path("reports", "night_1", "index.html")).read_text()
    tags = Tags(page)
    assert not tags.open
    assert "script" not in tags.names
    assert all(address.startswith(("data:", "#")) for address in tags.addresses)
    assert f"{challenger} against {promoted_model}" in page
    assert "This is run 1 over them" in page
    assert "data:image/jpeg;base64," in page
    assert HOSTILE not in page, "titles are data"
    won, lost = page.split("<h2>Queries won</h2>")[1].split("<h2>Queries lost</h2>")
    gains = [[float(after) - float(before) for before, after in DUEL.findall(section)] for section in (won, lost)]
    assert sum(map(len, gains)) > 0, "a model that turns every ranking around wins or loses some query"
    assert all(gain > 0 for gain in gains[0])
    assert all(gain < 0 for gain in gains[1])
    for name in ("all", "typos", "wording=plain", "items never shown"):
        assert f"change_of_recall_at_10 [{name}]" in record["figures"]
    assert "run 1 over these 3 judged queries" in record["notes"]


@pytest.mark.slow
def test_evaluation_records_what_the_model_and_the_promoted_one_answer(
    lake, spark, run_job, judged, challenger, promoted_model
):
    pairs = [("red dress", "i1", 10, 1, 0, 1.0, DAY, DAY), ("hat", "i4", 1, 1, 0, 1.0, DAY, DAY)]
    lake.append(QUERY_ITEM_PAIRS, spark.createDataFrame(pairs, QUERY_ITEM_PAIRS.schema))
    record = run_job(evaluate, date=DAY, **judged, slice_by=["wording"])
    assert record["verdict"] == "succeeded", record["notes"]
    metrics = lake.read(MODELS).where(f"model_version = '{challenger}'").first()["metrics"]
    assert metrics["judged_queries"] == 2
    assert metrics["recall_at_10"] == 1.0, "the catalog has four items"
    assert metrics["recall_at_10_lower"] == metrics["recall_at_10_upper"] == 1.0
    assert 1 < metrics["effective_rank"] <= 4, "four vectors"
    assert metrics["never_found_share"] == metrics["hubness_at_10"] == 0.0, "ten results hold all of them"
    assert json.loads(record["arguments"])["slice_by"] == ["wording"]
    assert record["figures"]["recall_at_10 [wording=colloquial]"] == 1.0
    by_traffic = ("queries of the head", "queries new to the log", "items of the head", "items of the tail")
    assert [record["figures"][f"queries [{name}]"] for name in (*by_traffic, "items never shown")] == [1] * 5
    results = lake.read(JUDGED_RESULTS).where("slice in ('all', 'typos')").collect()
    assert sorted((row["model_version"], row["slice"], row["query_id"]) for row in results) == sorted(
        (version, *rest)
        for version in (challenger, promoted_model)
        for rest in (("all", "q1"), ("all", "q2"), ("typos", "q1"))
    )
    assert all(set(row["found"]) == set(TITLES) for row in results)
    assert {row["query_id"]: row["relevant"] for row in results} == {"q1": ["i1", "i3"], "q2": ["i4"]}
    weights = lake.read(PHOTO_WEIGHTS).where(f"model_version = '{challenger}'").collect()
    assert {row["item_id"]: row["image_status"] for row in weights} == dict.fromkeys(TITLES, "missing") | {"i1": "ok"}

    lake.fs.makedirs(lake.path("training_runs"))
    with lake.fs.open(lake.path("training_runs", f"{challenger}.jsonl"), "w") as file:
        file.write('{"event": "step", "steps": 10, "loss": 2.5}\n{"event": "step", "steps": 20, "loss": 2.0}\n')
    page = Path(lake.path("reports", run_job(report, date=DAY, run_id="page")["run_id"], "index.html")).read_text()
    assert f"<h1>{challenger}</h1>" in page
    assert "not judged yet" in page
    assert "Losses over steps" in page
    assert "The photo changes the vector most" in page
    assert "data:image/jpeg;base64," in page

    again = run_job(evaluate, date=DAY, **judged, slice_by=["wording"])
    assert again["verdict"] == "unchanged", again["notes"]
    assert "run 2 over these 3 judged queries (before: 1 of training evaluate)" in again["notes"]
    assert again["figures"]["judged_run"] == 2


def test_a_model_is_not_compared_with_itself(run_job, judged, promoted_model):
    record = run_job(compare, date=DAY, **judged)
    assert "is both challenger and champion" in record["notes"][-1]


def test_two_models_are_compared_by_name_and_without_a_promoted_one_they_must_be(
    lake, run_job, judged, promoted_model, challenger
):
    record = run_job(compare, date=DAY, run_id="named", **judged, model_version=promoted_model, against=challenger)
    assert record["verdict"] == "succeeded", record["notes"]
    page = Path(lake.path("reports", "named", "index.html")).read_text()
    assert f"<h1>{promoted_model} against {challenger}</h1>" in page
    lake.delta(MODELS).update(set={"stage": "'candidate'", "promoted_at": "null"})
    assert "no model was promoted yet: name one with --against" in run_job(compare, date=DAY, **judged)["notes"][-1]


def test_the_promoted_model_is_measured_again_when_the_answers_changed_since(
    lake, run_job, judged, challenger, promoted_model
):
    run_job(evaluate, date=DAY, **judged, model_version=promoted_model)
    with Path(judged["judgments"]).open("a") as file:
        file.write("q2,i2\n")
    run_job(evaluate, date=DAY, **judged, model_version=challenger)
    results = lake.read(JUDGED_RESULTS).where("slice = 'all' and query_id = 'q2'").collect()
    assert sorted((row["model_version"], row["relevant"]) for row in results) == sorted(
        (version, ["i2", "i4"]) for version in (challenger, promoted_model)
    )
