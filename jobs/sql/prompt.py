"""Ask the lake in SQL, statement by statement, with a history.

Reads: what the statements name
"""

import contextlib
import readline
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from jobs.sql.door import Door, ScreenOptions, enter

_HISTORY = Path.home() / ".make_sql_history"
_HISTORY_LENGTH = 1_000
_LEAVE = {"exit", "quit", r"\q"}


class Options(ScreenOptions):
    """Ask the lake in SQL (database `make`); statements end with a semicolon, and Ctrl-D leaves."""


def statements(first_prompt: str, next_prompt: str) -> Iterator[str]:
    """Statements as a person types them: up to a line that ends with a semicolon.  Ctrl-C drops an unfinished one."""
    typed: list[str] = []
    while True:
        try:
            line = input(next_prompt if typed else first_prompt)
        except EOFError:
            return
        except KeyboardInterrupt:
            print()
            typed = []
            continue
        if not typed and line.strip().rstrip(";") in _LEAVE:
            return
        if typed or line.strip():
            typed.append(line)
        if line.rstrip().endswith(";"):
            statement = "\n".join(typed).strip().rstrip(";").strip()
            typed = []
            if statement:
                yield statement


class Completer:
    """What readline offers for the beginning of a word: the words of the lake and of SQL.

    Args:
        words: All of them.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words = sorted(set(words))

    def __call__(self, text: str, state: int) -> str | None:
        """The word number `state` that begins so, in the case in which it was begun; None when there are no more."""
        fitting = (word for word in self._words if word.startswith(text.lower()))
        word = next(islice(fitting, state, None), None)
        return word.upper() if word and text.isupper() else word


def run(options: Options) -> int:
    """Ask and answer until the person leaves."""
    with contextlib.suppress(OSError):  # no history yet, or one that cannot be read
        readline.read_history_file(_HISTORY)
    readline.set_history_length(_HISTORY_LENGTH)
    door = Door.open(options)
    known = door.registered
    readline.set_completer(Completer(door.words()))
    readline.parse_and_bind("tab: complete")
    print(f"Tables:    {', '.join(known.tables) or 'none yet'}")
    print(f"Views:     {', '.join(known.views) or 'none yet'}")
    print(f"Functions: {', '.join(known.functions)}")
    if known.absent:
        print(f"Not made by any job yet: {', '.join(known.absent)}")
    print("DESCRIBE <name>; tells what the columns hold. End a statement with a semicolon; Ctrl-D leaves.\n")
    try:
        for statement in statements("make> ", "   -> "):
            try:
                door.answer(statement)
            except KeyboardInterrupt:
                print("stopped")
    finally:
        with contextlib.suppress(OSError):
            readline.write_history_file(_HISTORY)
    return 0


if __name__ == "__main__":
    enter(Options, run)
