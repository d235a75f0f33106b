"""A run's lines become curves, and whatever a line lacks is left out."""

import xml.etree.ElementTree as ElementTree

import pytest

from jobs.training.curves import Curve, curves_of, draw_curves

SPEED = {"seconds": 1.0, "temperature": 0.07}
STEP = {"event": "step", "share_done": 0.1, "seconds_left": 9.0, **SPEED}
LINES = [
    STEP | {"steps": 10, "loss": 3.0, "query_item": 2.0},
    STEP | {"steps": 20, "loss": 9.0, "query_item": 9.0},
    {"event": "resumed", "steps": 10, **SPEED},
    STEP | {"steps": 20, "loss": 2.0, "query_item": 1.5, "query_photo": 0.5},
    {"event": "validation", "steps": 20, **SPEED, "recall_at_10": 0.4, "recall_at_10_error": 0.02},
    {"event": "finished", "model_version": "make-1"},
]


def test_losses_are_what_only_steps_have_and_a_repeated_step_counts_once():
    curves = curves_of(LINES)
    assert curves.losses == [
        Curve("loss", [10, 20], [3.0, 2.0]),
        Curve("query_item", [10, 20], [2.0, 1.5]),
        Curve("query_photo", [20], [0.5]),
    ]
    assert curves.recall == [Curve("recall_at_10", [20], [0.4])]


def test_a_run_without_a_step_has_no_curves():
    assert curves_of(LINES[4:]) is None
    assert curves_of([]) is None


def test_a_long_curve_is_thinned_to_means_of_neighbours():
    thin = Curve("loss", list(range(900)), [float(n % 3) for n in range(900)]).thinned()
    assert len(thin.steps) == len(thin.values) == 300
    assert thin.steps[:2] == [1.0, 4.0]
    assert thin.values == pytest.approx([1.0] * 300)


def test_a_plot_of_curves_is_well_formed_and_names_each():
    curves = curves_of(LINES).losses
    root = ElementTree.fromstring(draw_curves(curves, name="losses", label="Losses"))
    texts = "".join(root.itertext())
    assert all(curve.name in texts for curve in curves)
