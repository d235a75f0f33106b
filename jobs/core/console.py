"""What a person sees while jobs run: a line a step, and a progress bar on long work.

Spark, the JVM and Python libraries write to the log file; the few lines meant for people go where `MAKE_CONSOLE` names
a file (the launcher's pipe, when an orchestrator sits in between), else to the process's original standard error.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# Columns of tables that go to a file or a pipe, which has no width of its own.
_WIDTH_OF_FILES = 120
# How often the position of work that others do is asked for, and said where no bar can be drawn.
_SECONDS_BETWEEN_ASKING = 1.0
_SECONDS_BETWEEN_LINES = 60.0


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

    Where people do not read on a terminal, a line a minute says how far the work is.

    Args:
        console: Where people read.
        description: What is going on.
        total: Units in all; 1 where a share is told.
        position: For work that other processes do: tells how many units are done, and is asked once a second.
    """
    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn() if total > 1 else TextColumn(""),
        TaskProgressColumn(),
        _SpeedColumn(""),
        TimeRemainingColumn(),
    )
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        ExitStack() as stack,
    ):
        task = progress.add_task(description, total=total)
        if position is not None:
            ask = _repeatedly(_SECONDS_BETWEEN_ASKING, lambda: progress.update(task, completed=position()))
            stack.enter_context(ask)
        if not console.is_terminal:
            tell = _repeatedly(_SECONDS_BETWEEN_LINES, lambda: console.print(f"  {told(progress.tasks[0])}"))
            stack.enter_context(tell)
        yield lambda units: progress.advance(task, units)


def told(task: Task) -> str:
    """How far some work is: `embedding items: 12,000 of 44,072, 1,850/s, 17 s left`."""
    total = task.total or 0.0
    done = f"{task.completed:,.0f} of {total:,.0f}" if total > 1 else f"{task.percentage:.0f} %"
    left = f"{task.time_remaining:,.0f} s left" if task.time_remaining is not None else ""
    return f"{task.description}: {', '.join(filter(None, (done, _speed(task), left)))}"


def _speed(task: Task) -> str:
    return f"{task.speed:,.0f}/s" if task.speed and (task.total or 0.0) > 1 else ""


class _SpeedColumn(TextColumn):
    """Units a second; nothing where a share is told."""

    def render(self, task: Task) -> Text:
        return Text(_speed(task), style="progress.data.speed")


@contextmanager
def _repeatedly(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Call the action in a thread, every so many seconds until the block ends."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
