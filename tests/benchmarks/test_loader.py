import re

import numpy as np
import pytest

from benchmarks import loader
from benchmarks.loader import ratio_of_medians


def test_the_same_step_is_timed_with_every_source_of_batches(training_set, capsys):
    sizes = {"batch-size": 16, "rounds": 1, "settling": 0, "steps": 2, "threads": 1, "cache-mb": 0}
    options = [part for name, value in sizes.items() for part in (f"--{name}", str(value))]
    loader.main(["--training-set", str(training_set), *options])
    lines = capsys.readouterr().out.splitlines()
    figures = {line[:12].strip(): re.findall(r"\d+\.\d+", line) for line in lines[2:]}
    assert list(figures) == ["in memory", "Petastorm", "DataLoader"]
    assert [len(of_source) for of_source in figures.values()] == [5, 8, 5]
    step = {name: float(of_source[0]) for name, of_source in figures.items()}
    assert float(figures["Petastorm"][2]) == pytest.approx(step["Petastorm"] / step["in memory"], abs=0.02)
    assert all(milliseconds > 0 for milliseconds in step.values())


def test_a_ratio_is_of_medians_and_blocks_are_drawn_in_pairs():
    """A machine that is slower in some blocks slows both sources alike."""
    random = np.random.default_rng(0)
    slowness = np.array([1.0, 1.0, 1.5, 2.0])[:, None]
    reference = slowness * random.normal(1.0, 0.01, (4, 30))
    ratio, low, high = ratio_of_medians(1.1 * slowness * random.normal(1.0, 0.01, (4, 30)), reference)
    assert low < 1.1 < high
    assert high - low < 0.1
    assert ratio == pytest.approx(1.1, abs=0.03)
