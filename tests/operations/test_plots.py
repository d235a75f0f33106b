"""Plots are safe to put into the page, and follow its colours."""

import datetime as dt
import re
import xml.etree.ElementTree as ElementTree

import pytest

from jobs.core.plots import HISTOGRAM_BINS, WeightSpread, weight_histogram, weight_spreads
from jobs.operations import plots
from jobs.operations.night import Gate, PastNight, Rejection

HOSTILE = '<script>alert("x")</script> $\\frac{1}$ font-family: Arial'
NIGHTS = [
    PastNight(dt.date(2026, 11, 1), 12_345, 3, [], {"index build": 20.0, "catalog ingest": 60.0}, 0.98, None),
    PastNight(dt.date(2026, 11, 3), None, 0, ["index build"], {"index build": 90.0}, None, float("nan")),
]
PLOTS = [
    plots.rejection_bars(
        [Rejection("catalog", HOSTILE, 3, "{}", False), Rejection("query_log", "机器人", 1000, "{}", True)]
    ),
    plots.gate_allowances(
        [Gate("coverage", 0.98, 0.99, False, True, HOSTILE), Gate("drift", float("nan"), 0.01, False, False, None)]
    ),
    *plots.night_trends(NIGHTS).values(),
    *plots.step_trends(NIGHTS).values(),
    weight_histogram(range(HISTOGRAM_BINS)),
    weight_spreads([WeightSpread(HOSTILE, 12, 0.1, 0.4, 0.8), WeightSpread("长裙", 9, 0, 0.5, 1)]),
]


@pytest.mark.parametrize("svg", PLOTS)
def test_a_plot_is_well_formed_and_carries_no_markup_of_its_data(svg):
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert not [element for element in root.iter() if element.tag.endswith("script")]


def test_names_from_data_are_shown_as_they_are():
    texts = "".join(ElementTree.fromstring(PLOTS[0]).itertext())
    assert "<script>alert" in texts
    assert "机器人" in texts


@pytest.mark.parametrize("svg", PLOTS)
def test_every_colour_is_the_pages(svg):
    assert not re.findall(r"(?:fill|stroke): #", svg)


def test_ids_are_unique_across_the_plots_of_a_page():
    ids = [match for svg in PLOTS for match in re.findall(r'\bid="([^"]+)"', svg)]
    assert len(ids) == len(set(ids))


def test_a_trend_says_in_words_what_it_shows():
    drawn = {**plots.night_trends(NIGHTS), **plots.step_trends(NIGHTS)}
    labels = {name: ElementTree.fromstring(svg).attrib["aria-label"] for name, svg in drawn.items()}
    assert labels == {
        "items embedded": "items embedded: 12,345 at last, 12,345 to 12,345 over 1 night",
        "rows refused": "rows refused: 0 at last, 0 to 3 over 2 nights",
        "minutes of work": "minutes of work: 1.5 at last, 1.33333 to 1.5 over 2 nights",
        "recall@10 of the index": "recall@10 of the index: 0.98 at last, 0.98 to 0.98 over 1 night",
        "drift": "drift: not measured",
        "catalog ingest": "seconds of catalog ingest: 60 at last, 60 to 60 over 1 night",
        "index build": "seconds of index build: 90 at last, 20 to 90 over 2 nights",
    }


def test_a_failed_run_is_orange_among_the_runs_of_its_job_alone():
    drawn = plots.step_trends(NIGHTS)
    assert "var(--refused)" in drawn["index build"]
    assert "var(--refused)" not in drawn["catalog ingest"]
