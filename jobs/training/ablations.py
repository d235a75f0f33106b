"""What each part of the model is worth: the summary that `make ablations` leaves, for a model's page."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError

from jobs.core.job import JobError


class Change(BaseModel):
    """A cell's mean of a measure, and what it is above the full model's, with the ends of an interval."""

    mean: float
    change: float
    lower: float
    upper: float

    @property
    def leaves_out_zero(self) -> bool:
        """Whether the interval holds changes of one sign only."""
        return self.lower > 0 or self.upper < 0


class AblatedCell(BaseModel):
    """One variant of the model: its change of each measure, paired by query and seed."""

    name: str
    seeds: int
    changes: dict[str, Change]


class Ablations(BaseModel):
    """Variants of one model, trained on one set and measured on the same queries.

    Attributes:
        command: What made it.
        device: What trained them.
        queries: Judged queries of each measurement.
        full: The full model's mean of each measure.
        full_seeds: Trainings of the full model.
        cells: The others.  Intervals hold 95 % for all rivals together, and 95 % for all other variants together.
    """

    training_set_id: str
    command: str
    device: str
    queries: int
    full: dict[str, float]
    full_seeds: int
    cells: list[AblatedCell]


def read_ablations(file: Path) -> Ablations:
    """Read a summary.

    Raises:
        JobError: There is no such file, or it is not a summary.
    """
    try:
        return Ablations.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise JobError(
            f"--ablations: expected the summary.json of a folder that `make ablations` filled, got {file}: {error}"
        ) from error
