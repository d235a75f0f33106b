"""The night in one word, and the reasons when the word is not green."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.operations.night import CHAIN, Build, Step


@dataclass(frozen=True)
class Verdict:
    """How the night ended.

    Args:
        light: green (nothing to do for a person), amber (look when you have time), red (look now).
        headline: One sentence.
        reasons: What keeps the light from green; empty when it is.
    """

    light: Literal["green", "amber", "red"]
    headline: str
    reasons: Sequence[str]


def judge(steps: Sequence[Step], build: Build | None, published: Build | None, *, date: dt.date) -> Verdict:
    """Judge a night.

    Args:
        steps: The newest run of each job.
        build: The night's build.
        published: The build that serves now.
        date: The night.
    """
    by_verdict = {word: [s for s in steps if s.verdict == word] for word in ("failed", "skipped")}
    missed = [gate for gate in (build.gates if build and build.gates else ()) if not gate.passed and gate.blocking]
    absent = [job for job in CHAIN if job not in {step.job for step in steps}]

    reasons = [_ended(step) for step in by_verdict["failed"]]
    reasons += [f"gate {gate.gate} missed its bound: {_against(gate.figure, gate.bound)}" for gate in missed]
    if reasons:
        headline = "Something failed; what is published was left as it was."
        return Verdict("red", headline, reasons + [_ended(step) for step in by_verdict["skipped"]])

    if by_verdict["skipped"]:
        # Every later step is skipped for the first one's reason: say it once.
        reasons = list(dict.fromkeys(_ended(step) for step in by_verdict["skipped"][:1]))
    elif absent:
        reasons.append(f"no run is recorded of {', '.join(absent)}")
    if published and published.holds(date):
        until = f" until {published.hold_until:%Y-%m-%d}" if published.hold_until else ""
        reasons.append(f"publishing is on hold{until} by {published.held_by}: {published.hold_reason}")
    reasons += [
        f"{step.job}: {step.unaccounted_rows:,} rows neither accepted nor rejected"
        for step in steps
        if step.job.endswith("ingest") and step.unaccounted_rows
    ]
    if reasons:
        return Verdict("amber", "The night ended without publishing everything it could.", reasons)
    if published is None:
        return Verdict(
            "amber", "The night ended, and no build is published.", ["no build has passed and been published"]
        )
    return Verdict("green", f"Build {published.build_id} serves {published.items:,} items.", [])


def _ended(step: Step) -> str:
    return f"{step.job} {step.verdict}: {step.notes[-1] if step.notes else 'it left no note'}"


def _against(figure: float | None, bound: float | None) -> str:
    return " against ".join("none" if value is None else f"{value:.4g}" for value in (figure, bound))
