"""The most memory that processes take while they run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from benchmarks.beside import beside

_SECONDS_BETWEEN_LOOKS = 0.2


class Peaks:
    """What processes below this one took at most, this one aside.

    Attributes:
        worker_bytes: Resident memory of any one Python worker of Spark.
        tree_bytes: Memory of all together, of which a part that several share counts once (the sum of their PSS).
    """

    def __init__(self) -> None:
        self.worker_bytes = self.tree_bytes = 0

    def look(self) -> None:
        """Take what there is now into account."""
        tree = 0
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                memory = process.memory_full_info()
                tree += memory.pss
                if "jobs.core.python_daemon" in process.cmdline():
                    self.worker_bytes = max(self.worker_bytes, memory.rss)
        self.tree_bytes = max(self.tree_bytes, tree)


@contextmanager
def watched() -> Iterator[Peaks]:
    """Watch the processes below this one while the block runs."""
    peaks = Peaks()

    def watch(over: threading.Event) -> None:
        while not over.wait(_SECONDS_BETWEEN_LOOKS):
            peaks.look()

    with beside(watch):
        yield peaks
