"""What a run tells while it trains: JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class ProgressLog:
    """JSON lines about a run, each flushed as it is written; nowhere when there is no path."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text("")

    def write(self, event: str, **figures: Any) -> None:
        """Append one line: `{"event": ..., figures}`."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"event": event, **figures}) + "\n")
