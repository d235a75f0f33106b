"""What a person sees while jobs run: a line a step, and a progress bar on long work.

Spark, the JVM and Python libraries write to the log file; the few lines meant for people go where `MAKE_CONSOLE` names
a file (the launcher's pipe, when an orchestrator sits in between), else to the process's original standard error.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

# Columns of tables that go to a file or a pipe, which has no width of its own.
_WIDTH_OF_FILES = 120


def open_console() -> Console:
    """The console for people.  Call it before `quieten_process`."""
    target = os.environ.get("MAKE_CONSOLE")
    if target:
        terminal = os.environ.get("MAKE_CONSOLE_TTY") == "1"
        stream: TextIO = Path(target).open("a", encoding="utf-8")  # noqa: SIM115 - lives as long as the process
    else:
        stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", buffering=1)
        terminal = stream.isatty()
    width = None if terminal else _WIDTH_OF_FILES
    return Console(file=stream, force_terminal=terminal, width=width, highlight=False, soft_wrap=True)


def quieten_process(log_file: Path) -> None:
    """Send this process's standard error, and that of all it starts, to the log file."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, sys.stderr.fileno())
    os.close(descriptor)


@contextmanager
def progress_bar(
    console: Console, description: str, total: float, position: Callable[[], float] | None = None
) -> Iterator[Callable[[float], None]]:
    """A bar that disappears when done; yields a function that advances it by a number of units.

    Args:
        console: Where people read.
        description: What is going on.
        total: Units in all.
        position: For work that other processes do: tells how many units are done, and is asked once a second.
    """
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn() if total > 1 else TextColumn(""),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=total)
        with _once_a_second(lambda: progress.update(task, completed=position())) if position else nullcontext():
            yield lambda units: progress.advance(task, units)


@contextmanager
def _once_a_second(action: Callable[[], None]) -> Iterator[None]:
    """Call the action in a thread until the block ends."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(1.0):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
