"""What the query and the prompt share: a session over the lake, and answers that a person or a program can read."""

import csv
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Literal, NoReturn, Self

from pydantic import Field
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobs.core.console import open_console, quieten_process
from jobs.core.lake import Lake
from jobs.core.options import AnyOptions, JobOptions, OptionsError, parse_options
from jobs.core.session import open_session
from jobs.sql.register import Registered, register

_SHOWN_ELEMENTS = 4
_SHOWN_CHARACTERS = 80
_LEAST_COLUMN_WIDTH = 10


class DoorOptions(JobOptions):
    """What every way into the lake by SQL takes."""

    database: str = Field("make", pattern=r"^[a-z][a-z0-9_]*$", description="Name of the lake's database.")


class ScreenOptions(DoorOptions):
    """What every way takes whose answers go to a screen."""

    rows: int = Field(50, ge=1, description="Rows that a table on the screen shows at most.")


class Door:
    """A session whose database is the lake, and the screen that answers go to.

    Unlike a job, a door leaves no record in `job_runs` and creates no table.

    Args:
        lake: The lake.
        screen: Where answers go.
        complaints: Where the errors of statements go.
        options: How much a table shows, and the name of the database.
    """

    def __init__(
        self, spark: SparkSession, lake: Lake, *, screen: Console, complaints: Console, options: ScreenOptions
    ) -> None:
        self._spark, self._screen, self._complaints, self._rows = spark, screen, complaints, options.rows
        self.registered: Registered = register(spark, lake, database=options.database)

    @classmethod
    def open(cls, options: ScreenOptions) -> Self:
        """The door of this process: answers to standard output, everything but errors of statements to a log file."""
        complaints = open_console()
        quieten_process(options.log_dir / "sql.log")
        spark = open_session("make sql")
        screen = Console(highlight=False)
        return cls(spark, Lake(spark, options.lake), screen=screen, complaints=complaints, options=options)

    def answer(self, query: str, form: Literal["table", "csv", "json"] = "table") -> bool:
        """Run one statement and print its rows; what is wrong with it is printed as Spark says it.

        Returns:
            Whether it ran.
        """
        try:
            rows = self._spark.sql(query)
            {"table": self._print_table, "csv": self._print_csv, "json": self._print_json}[form](rows)
        except PySparkException as error:
            self._complaints.print(_essence(error), style="red", markup=False)
            return False
        return True

    def words(self) -> set[str]:
        """What statements are made of: SQL's words, and the names of tables, their columns, and functions."""
        tables = [*self.registered.tables, *self.registered.views]
        columns = (column for table in tables for column in self._spark.table(table).columns)
        keywords = (row["keyword"].lower() for row in self._spark.sql("SELECT keyword FROM sql_keywords()").collect())
        return {*tables, *columns, *self.registered.functions, *keywords}

    def _print_table(self, rows: DataFrame) -> None:
        found = rows.take(self._rows + 1)
        if not rows.columns:
            return
        names, shown = [escape(name) for name in rows.columns], found[: self._rows]
        cells = [[escape(_readable(value)) for value in row] for row in shown]
        if len(names) * _LEAST_COLUMN_WIDTH <= self._screen.width:
            table = Table(*names)
            for row in cells:
                table.add_row(*row)
            self._screen.print(table)
        else:  # too wide to read side by side: a record below the other
            for number, row in enumerate(cells, start=1):
                record = Table("column", "value", title=f"row {number:,}", title_justify="left")
                for name, cell in zip(names, row, strict=True):
                    record.add_row(name, cell)
                self._screen.print(record)
        if len(found) > self._rows:
            self._screen.print(f"The first {self._rows:,} rows; there are more.", style="dim")

    def _print_csv(self, rows: DataFrame) -> None:
        writer = csv.writer(self._screen.file)
        writer.writerow(rows.columns)
        writer.writerows(rows.toLocalIterator())

    def _print_json(self, rows: DataFrame) -> None:
        for line in rows.toJSON().toLocalIterator():
            print(line, file=self._screen.file)


def enter(kind: type[AnyOptions], work: Callable[[AnyOptions], int]) -> NoReturn:
    """Entry point of a door's file: validate the options, do the work, exit with its status."""
    sys.argv[0] = f"python -m jobs sql {Path(work.__code__.co_filename).stem}"  # what its help names
    try:
        options = parse_options(kind, sys.argv[1:])
    except OptionsError as error:
        sys.exit(f"{error}\nTry --help.")
    complaints = open_console()  # while standard error still goes to people; a traceback goes to the log
    try:
        sys.exit(work(options))
    except Exception as error:
        text = _essence(error) if isinstance(error, PySparkException) else str(error)
        complaints.print(f"{text}\nThe log in {options.log_dir} says more.", style="red", markup=False)
        raise


def _readable(value: object) -> str:
    """A value in a table's cell: vectors and photos by their first elements or size, long texts cut."""
    match value:
        case None:
            return "NULL"
        case float():
            return f"{value:.6g}"
        case bytes() | bytearray():
            return f"<{len(value):,} bytes>"
        case list() if len(value) > _SHOWN_ELEMENTS:
            first = ", ".join(_readable(element) for element in islice(value, _SHOWN_ELEMENTS))
            return f"[{first}, ... {len(value):,} elements]"
        case list():
            return f"[{', '.join(_readable(element) for element in value)}]"
        case _:
            text = str(value)
            return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def _essence(error: PySparkException) -> str:
    """The error without the query plan, the traceback of a worker and the JVM's stack."""
    lines = [line for line in (error.getMessage() or str(error)).strip().splitlines() if line.strip()]
    if "Traceback (most recent call last):" in "\n".join(lines):
        return lines[-1]
    plan = next((n for n, line in enumerate(lines) if line.startswith(("'", "+-", "JVM stacktrace"))), len(lines))
    return "\n".join(lines[:plan])
