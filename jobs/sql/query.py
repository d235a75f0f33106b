"""Answer one SQL query over the lake: a table to read, or CSV or JSON lines to go on with.

Reads: what the query names
"""

from typing import Literal

from pydantic import Field

from jobs.sql.door import Door, ScreenOptions, enter


class Options(ScreenOptions):
    """Answer one SQL query over the lake (database `make`)."""

    query: str = Field(min_length=1, description="One SQL statement.")
    format: Literal["table", "csv", "json"] = Field(
        "table", description="A table to read, CSV, or one JSON object a line; the latter two print every row."
    )


def run(options: Options) -> int:
    """Answer; returns the process's exit status."""
    return 0 if Door.open(options).answer(options.query, options.format) else 1


if __name__ == "__main__":
    enter(Options, run)
