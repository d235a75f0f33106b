"""People see how far long work is, on a terminal and in a file."""

import io
import itertools
import re
import time

from rich.console import Console

from jobs.core import console as module
from jobs.core.console import progress_bar


def lines_of(total: float, step: float, monkeypatch) -> list[str]:
    """What work that does a step whenever it is asked says in a file."""
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_ASKING", 0.02)
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_LINES", 0.2)
    file, done = io.StringIO(), itertools.count(step, step)
    with progress_bar(Console(file=file, force_terminal=False, width=120), "work", total, lambda: next(done)):
        time.sleep(0.9)
    return file.getvalue().splitlines()


def test_in_a_file_a_line_now_and_then_says_how_far_the_work_is_how_fast_and_how_long_still(monkeypatch):
    lines = lines_of(50_000, 100, monkeypatch)
    assert len(lines) >= 2
    done = [re.fullmatch(r"  work: ([\d,]+) of 50,000, [\d,]+/s, [\d,]+ s left", line) for line in lines]
    assert all(done), lines
    counts = [int(match[1].replace(",", "")) for match in done]
    assert counts == sorted(set(counts))


def test_of_a_share_the_percentage_is_told(monkeypatch):
    lines = lines_of(1.0, 0.01, monkeypatch)
    assert lines
    assert all(re.fullmatch(r"  work: \d+ %, \d+ s left", line) for line in lines), lines


def test_on_a_terminal_the_bar_shows_how_fast_the_work_goes(monkeypatch):
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_ASKING", 0.02)
    file, done = io.StringIO(), itertools.count(100, 100)
    console = Console(file=file, force_terminal=True, width=120)
    with progress_bar(console, "work", 50_000, lambda: next(done)):
        time.sleep(0.5)
    assert re.search(r"[\d,]+/50000.*[\d,]+/s", re.sub(r"\x1b\[[^m]*m", "", file.getvalue()))
