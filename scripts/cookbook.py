"""Fill in the answers of a Markdown page's SQL: `python -m scripts.cookbook docs/sql.md demo/lake`.

After every block of SQL comes a block of text with what `make sql` prints for it.
"""

import io
import re
import sys
from pathlib import Path

from pyspark.sql import SparkSession
from rich.console import Console

from jobs.core.lake import Lake
from jobs.core.session import open_session
from jobs.sql.door import Door, ScreenOptions

# A statement, and its answer where the page has one already.
BLOCK = re.compile(r"```sql\n(?P<statement>.*?);\n```\n(?:\n```text\n(?P<answer>.*?)```\n)?", re.DOTALL)
_WIDTH = 130


class Cook:
    """Answers statements as a person would see them.

    Args:
        spark: The session.
        lake: The lake that is asked.
    """

    def __init__(self, spark: SparkSession, lake: Lake) -> None:
        self._printed, self._complained = io.StringIO(), io.StringIO()
        screen = Console(file=self._printed, width=_WIDTH, highlight=False)
        complaints = Console(file=self._complained, width=_WIDTH)
        self._door = Door(spark, lake, screen=screen, complaints=complaints, options=ScreenOptions())

    def answer(self, statement: str) -> str:
        """What the screen shows.

        Raises:
            ValueError: The statement does not run.
        """
        self._printed.seek(0)
        self._printed.truncate()
        if not self._door.answer(statement):
            raise ValueError(f"{statement}\n{self._complained.getvalue()}")
        return "".join(f"{line.rstrip()}\n" for line in self._printed.getvalue().splitlines())


def with_answers(page: str, cook: Cook) -> str:
    """The page, every statement followed by its answer."""

    def answered(block: re.Match) -> str:
        statement = block["statement"]
        return f"```sql\n{statement};\n```\n\n```text\n{cook.answer(statement)}```\n"

    return BLOCK.sub(answered, page)


def main(page: Path, lake: str) -> None:
    """Rewrite the page."""
    spark = open_session("cookbook")
    page.write_text(with_answers(page.read_text(encoding="utf-8"), Cook(spark, Lake(spark, lake))), encoding="utf-8")
    spark.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
