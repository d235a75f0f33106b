"""A model's page shows what the lake knows of it, and says where it knows nothing."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import Row

from jobs.core.job import JobError
from jobs.core.pages import render_page
from jobs.training.ablations import Ablations, read_ablations
from jobs.training.curves import Curve, Curves
from jobs.training.gallery import Card
from jobs.training.report import (
    HardQuery,
    Page,
    Verdict,
    Weights,
    category_spreads,
    ends,
    hardest_queries,
    kind_spreads,
    slice_figures,
)
from tests.pages import Tags

DAY = dt.date(2026, 11, 20)
HOSTILE = "<script>alert('title')</script>"
SAMPLE = pd.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "title": ["Red hat", "hat", "红色 帽子", "shoe, reduced"],
        "category": ["hats", "hats", None, "shoes"],
        "image_weight": [0.1, 0.3, 0.6, 0.8],
        "photo_effect": [0.2, 0.1, 0.4, 0.3],
        "image_status": ["ok"] * 4,
    }
)
RESULTS = pd.DataFrame(
    [
        ("all", "q1", "hat", 0.5, 1.0, 0.4, ["a", "b"], ["b", "a"]),
        ("all", "q2", "shoe", 0.0, 0.0, 0.0, ["d"], ["a"]),
        ("all", "q3", "boot", 0.0, 1.0, 0.0, ["d"], ["b"]),
        ("titles that lack a word", "q1", "hat", 1.0, 1.0, 1.0, ["a", "c"], ["b", "a"]),
        ("items shown", "q9", "hat", 1.0, 1.0, 1.0, ["elsewhere"], ["b", "a"]),
        ("typos", "q1", "hta", 0.5, 0.5, 0.5, ["a", "b"], ["a"]),
    ],
    columns=["slice", "query_id", "query", "recall_at_10", "recall_at_100", "ndcg_at_10", "relevant", "found"],
)


def page_of(**known) -> str:
    model = Row(
        model_version="make-20261120-00000000",
        training_set_id="set",
        training_settings='{"epochs": 3}',
        metrics={"steps": 10.0, "effective_rank": 41.5},
        code_revision=None,
        created_at=dt.datetime(2026, 11, 20),
        promotion_reason=None,
    )
    nothing = {
        "verdict": Verdict("amber", "not judged yet", []),
        "curves": None,
        "data_seen": {},
        "settings": {},
        "slices": {},
        "measured_on": None,
        "judged_runs": 0,
        "weights": None,
        "hardest": [],
        "ablations": None,
    }
    page = Page(date=DAY, run_id="night", model=model, **(nothing | known))
    return render_page("jobs.training", "report.html.j2", page=page)


def test_a_model_of_which_nothing_is_known_has_a_page_that_says_so():
    html = page_of()
    assert not Tags(html).open
    for words in ("No curves", "Not measured yet", "No judged query is known", "not judged yet", "Not shown"):
        assert words in html


def test_a_page_is_whole_carries_no_markup_of_its_data_and_loads_nothing():
    card = Card("a", HOSTILE, None, "weight 0.10", is_good=False)
    html = page_of(
        verdict=Verdict("green", "promoted", [HOSTILE]),
        curves=Curves([Curve("loss", [1, 2], [3.0, 2.0])], [Curve("recall_at_10", [2], [0.4])]),
        data_seen={"steps": 10.0},
        settings={"overrides.fusion": "mean"},
        slices=slice_figures(RESULTS),
        measured_on=DAY,
        judged_runs=7,
        weights=Weights({"ok": 4}, [1] * 40, category_spreads(SAMPLE), kind_spreads(SAMPLE, RESULTS), {"most": [card]}),
        hardest=[HardQuery(HOSTILE, 0.0, 1, [card])],
    )
    tags = Tags(html)
    assert not tags.open
    assert "script" not in tags.names
    assert tags.names.count("svg") == 5
    assert all(address.startswith(("data:", "#")) for address in tags.addresses)
    assert html.count("&lt;script&gt;alert") >= 3
    assert "0.167 <small>0.000 to 0.500</small>" in html
    assert "7 runs over these queries so far" in html
    assert "<dt>effective_rank</dt><dd>41.5</dd>" in html


def test_the_ablations_of_another_set_are_shown_and_told_to_be():
    changes = [{"mean": 0.4, "change": -0.1, "lower": -0.2, "upper": upper} for upper in (-0.05, 0.05)]
    ablations = Ablations(
        training_set_id="another",
        command="make ablations",
        device="2 CPU cores",
        queries=676,
        full={"recall_at_10": 0.5, "ndcg_at_10": 0.5},
        full_seeds=2,
        cells=[
            {"name": "no image", "seeds": 1, "changes": dict(zip(("recall_at_10", "ndcg_at_10"), changes, strict=True))}
        ],
    )
    html = page_of(ablations=ablations)
    assert not Tags(html).open
    assert "<code>another</code>, which is not this model&#39;s" in html
    assert "<strong>0.400 <small>-0.100, -0.200 to -0.050</small></strong>" in html
    assert ">0.400 <small>-0.100, -0.200 to +0.050</small></td>" in html


@pytest.mark.parametrize("content", [None, "", '{"command": "make ablations"}'])
def test_what_is_no_summary_of_ablations_is_refused(content, tmp_path):
    file = tmp_path / "summary.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(JobError, match=r"expected the summary.json .* got .*summary.json"):
        read_ablations(file)


def test_slices_are_told_with_intervals_the_whole_and_the_typos_first():
    figures = slice_figures(RESULTS)
    assert list(figures) == ["all", "typos", "items shown", "titles that lack a word"]
    queries, by_measure = figures["all"]
    assert queries == 3
    assert by_measure["recall_at_10"].mean == pytest.approx(1 / 6)
    assert by_measure["recall_at_10"].lower <= 1 / 6 <= by_measure["recall_at_10"].upper


def test_the_hardest_queries_are_those_with_the_lowest_gain_then_the_lowest_recall():
    assert hardest_queries(RESULTS, 2)["query"].tolist() == ["shoe", "boot"]


def test_weights_are_spread_by_category_and_by_kind_of_answer():
    assert [(spread.group, spread.items) for spread in category_spreads(SAMPLE)] == [
        ("hats", 2),
        ("(no category)", 1),
        ("shoes", 1),
    ]
    *titles, lacking = kind_spreads(SAMPLE, RESULTS)
    assert (lacking.group, lacking.items) == ("answers: titles that lack a word", 2)
    assert [lacking.low, lacking.median, lacking.high] == pytest.approx(np.quantile([0.1, 0.6], [0.1, 0.5, 0.9]))
    assert kind_spreads(SAMPLE, None) == titles
    assert [(spread.group, spread.items) for spread in titles] == [
        ("titles that name a colour", 2),
        ("titles that name none", 2),
    ]


def test_the_ends_are_the_products_with_least_and_most_of_weight_and_effect():
    found = {caption: products["item_id"].tolist() for caption, products in ends(SAMPLE, 2).items()}
    assert list(found.values()) == [["a", "b"], ["d", "c"], ["b", "a"], ["c", "d"]]
