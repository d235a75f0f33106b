"""What a run tells while it trains: JSON lines, and TensorBoard's scalars."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Events whose figures are curves over steps.
_CURVES = ("step", "validation")


class ProgressLog:
    """JSON lines about a run, each flushed as it is written, and their figures as scalars for TensorBoard.

    Args:
        file: where the lines go; None: nowhere.
        tensorboard_folder: where TensorBoard's event files go; None: nowhere.

    Attributes:
        lines: all so far, for the run that goes on after this one was killed.
    """

    def __init__(self, file: str | None, tensorboard_folder: str | None) -> None:
        self.lines: list[str] = []
        self._file = Path(file) if file else None
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text("")
        self._scalars = None
        if tensorboard_folder:
            from torch.utils.tensorboard import SummaryWriter  # costs a second, which most runs need not spend

            self._scalars = SummaryWriter(tensorboard_folder)

    def write(self, event: str, **figures: Any) -> None:
        """Append one line: `{"event": ..., figures}`; curves have their place in `steps`."""
        self.restore([json.dumps({"event": event, **figures})])

    def restore(self, lines: Iterable[str]) -> None:
        """Append lines that were written before."""
        for line in lines:
            self.lines.append(line)
            if self._file is not None:
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")
            figures = json.loads(line)
            event = figures.pop("event")
            if self._scalars is not None and event in _CURVES:
                for name, figure in figures.items():
                    self._scalars.add_scalar(f"{event}/{name}", figure, figures["steps"])

    def close(self) -> None:
        """Write out what TensorBoard's writer still holds."""
        if self._scalars is not None:
            self._scalars.close()
