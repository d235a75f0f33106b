"""Write the answers into docs/sql.md: `make demo`, then `python -m scripts.cookbook`.

After every block of SQL comes a block of text: what `make sql` prints for it over the demo's lake.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pyspark.sql import SparkSession
from rich.console import Console

from jobs.core.lake import Lake
from jobs.core.session import open_session
from jobs.sql.door import Door, ScreenOptions
from scripts.demo import LAKE
from scripts.environment import ROOT

PAGE = ROOT / "docs" / "sql.md"
# A statement, and its answer where the page has one already.
_BLOCK = re.compile(
    r"^```sql\n(?P<statement>.*?);\n```\n(?:\n```text\n(?P<answer>.*?)```\n)?", re.DOTALL | re.MULTILINE
)
# Of the answers as printed, in characters.
_WIDTH = 132


@dataclass(frozen=True)
class Question:
    """A question of the cookbook."""

    statement: str
    answer: str


def questions(page: str) -> Iterator[Question]:
    """The page's questions in their order; `answer` is empty where the page has none yet."""
    for block in _BLOCK.finditer(page):
        yield Question(block["statement"], block["answer"] or "")


class Cook:
    """Answers statements as a person would see them.

    Args:
        lake: The lake that is asked.
    """

    def __init__(self, spark: SparkSession, lake: Lake) -> None:
        self._printed, self._complaints = io.StringIO(), io.StringIO()
        screen = Console(file=self._printed, width=_WIDTH, highlight=False)
        complaints = Console(file=self._complaints, width=_WIDTH)
        self._door = Door(spark, lake, screen=screen, complaints=complaints, options=ScreenOptions())

    def answer(self, statement: str) -> str:
        """What the screen shows.

        Raises:
            ValueError: The statement does not run.
        """
        self._printed.seek(0)
        self._printed.truncate()
        if not self._door.answer(statement):
            raise ValueError(f"{statement}\n{self._complaints.getvalue()}")
        return "".join(f"{line.rstrip()}\n" for line in self._printed.getvalue().splitlines())


def with_answers(page: str, cook: Cook) -> str:
    """The page, every statement followed by its answer."""

    def answered(block: re.Match) -> str:
        statement = block["statement"]
        return f"```sql\n{statement};\n```\n\n```text\n{cook.answer(statement)}```\n"

    return _BLOCK.sub(answered, page)


def main() -> None:
    """Rewrite the page."""
    spark = open_session("cookbook")
    PAGE.write_text(
        with_answers(PAGE.read_text(encoding="utf-8"), Cook(spark, Lake(spark, str(LAKE)))), encoding="utf-8"
    )
    spark.stop()


if __name__ == "__main__":
    main()
