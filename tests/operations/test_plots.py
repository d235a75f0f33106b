"""Plots are safe to put into the page, and follow its colours."""

import datetime as dt
import re
import xml.etree.ElementTree as ElementTree

import pytest

from jobs.core.plots import HISTOGRAM_BINS, WeightSpread, weight_histogram, weight_spreads
from jobs.operations import plots
from jobs.operations.night import Gate, PastNight, Rejection

HOSTILE = '<script>alert("x")</script> $\\frac{1}$ font-family: Arial'
PLOTS = [
    plots.rejection_bars(
        [Rejection("catalog", HOSTILE, 3, "{}", False), Rejection("query_log", "机器人", 1000, "{}", True)]
    ),
    plots.gate_allowances(
        [Gate("coverage", 0.98, 0.99, False, True, HOSTILE), Gate("drift", float("nan"), 0.01, False, False, None)]
    ),
    plots.night_trends(
        [
            PastNight(dt.date(2026, 11, 1), 12, 3, 0, 60.0, 0.98, None),
            PastNight(dt.date(2026, 11, 3), None, 0, 1, 90.0, None, float("nan")),
        ]
    ),
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
