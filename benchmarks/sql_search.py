"""Searches by a JDBC client of `make sql-server`: milliseconds of a warm one, of the first one after a pause, of many.

    python -m benchmarks.sql_search --lake ./lake

Warm: `search` and `SELECT 1` in turn; what counts is what a search takes beyond an empty query's round trip.  After
the pause: the first search beyond the first `SELECT 1`.  Many: 10,000 queries in one `search_many`, against a client
that asks one after the other.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np
from pydantic import Field
from pydantic_settings import BaseSettings

from benchmarks.jdbc import Client, Jdbc
from benchmarks.options import read_options
from benchmarks.processes import free_port
from benchmarks.table import markdown_table
from jobs.core.options import JobOptions
from schemas.table import sql_literal
from scripts.environment import ROOT

_READY_S = 180


class Options(BaseSettings):
    """Ask a published build over JDBC, and time the answers."""

    model_config = JobOptions.model_config

    lake: Path = Field(description="A lake with a published build and embedded queries.")
    searches: int = Field(300, ge=1, description="Warm searches.")
    idle_s: int = Field(300, ge=0, description="Seconds of the pause.")
    many: int = Field(10_000, ge=1, description="Queries of the one statement.")
    one_by_one: int = Field(100, ge=1, description="Of these, so many are also asked one by one.")


class Server:
    """A running `jobs sql server`.

    Args:
        lake: What it serves.
        folder: Where its log and its words for people go.
        options: More options of the command.
    """

    def __init__(self, lake: str, folder: Path, *options: str) -> None:
        self.port, self.connect_port, self._console = free_port(), free_port(), folder / "console"
        self._console.touch()
        ports = [f"--port={self.port}", f"--connect-port={self.connect_port}"]
        of_session = ("PYSPARK_SUBMIT_ARGS", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")  # if this process has one
        environment = {name: value for name, value in os.environ.items() if name not in of_session}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobs", "sql", "server", f"--lake={lake}", f"--log-dir={folder}", *ports, *options],
            cwd=ROOT,
            env={**environment, "MAKE_CONSOLE": str(self._console)},
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def url(self) -> str:
        """Where JDBC clients connect."""
        return f"jdbc:hive2://127.0.0.1:{self.port}/make"

    @property
    def words(self) -> str:
        """What it told people."""
        return self._console.read_text()

    def wait_until_ready(self) -> None:
        """Return once clients may connect.

        Raises:
            RuntimeError: It ended, or takes too long.
        """
        deadline = time.monotonic() + _READY_S
        while "Ready" not in self.words:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended: {self.words}{self.process.stderr.read()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server is not ready after {_READY_S} s: {self.words}")
            time.sleep(0.2)

    def stop(self) -> int:
        """Stop it; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def client_of(lake: Path) -> Iterator[Client]:
    """A client of a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        server, jdbc = Server(str(lake.absolute()), Path(folder)), Jdbc()
        try:
            server.wait_until_ready()
            client = jdbc.connect(server.url)
            yield client
            client.close()
        finally:
            jdbc.close()
            server.stop()


def timed(ask: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began


def search_of(query: str) -> str:
    """The statement that an analyst would type."""
    return f"SELECT * FROM search({sql_literal(query)}, 10)"


def measure(client: Client, options: Options) -> list[list[str]]:
    """Rows of a table: what was asked, and what it took."""
    queries = [query for (query,) in client.ask("SELECT DISTINCT query FROM query_embeddings ORDER BY query")]
    asked = list(islice(numbered(queries), options.many))
    for query in asked[:20]:
        client.ask(search_of(query))
        client.ask("SELECT 1")
    empty, search = [], []
    for query in islice(cycle(asked), options.searches):
        empty.append(timed(lambda: client.ask("SELECT 1")))
        search.append(timed(lambda query=query: client.ask(search_of(query))))
    beyond = np.array(search) - median(empty)
    rows = [
        ["`SELECT 1`", *_told(empty)],
        ["`search('...', 10)`", *_told(search)],
        ["beyond `SELECT 1`", *_told(beyond)],
    ]
    time.sleep(options.idle_s)
    first_empty = timed(lambda: client.ask("SELECT 1"))
    first = timed(lambda: client.ask(search_of(asked[0])))
    rows.append([f"first after {options.idle_s} s, beyond `SELECT 1`", f"{1000 * (first - first_empty):,.0f}", ""])

    values = ", ".join(f"({sql_literal(query)})" for query in asked)
    client.ask(f"CREATE OR REPLACE TEMPORARY VIEW asked AS SELECT * FROM VALUES {values} AS t(query)")
    many = timed(lambda: client.ask("SELECT count(*), sum(score) FROM search_many(TABLE(asked), 10)"))
    one = timed(lambda: [client.ask(search_of(query)) for query in asked[: options.one_by_one]]) / options.one_by_one
    rows.append([f"`search_many`, {len(asked):,} queries, each", f"{1000 * many / len(asked):.2f}", ""])
    rows.append(["one by one, each", f"{1000 * one:.0f}", f"{one * len(asked) / many:,.0f} times as long"])
    return rows


def numbered(queries: list[str]) -> Iterator[str]:
    """Every query, then every query with a 1 behind it, and so on."""
    for n, query in enumerate(cycle(queries)):
        yield query if n < len(queries) else f"{query} {n // len(queries)}"


def _told(seconds: np.ndarray | list[float]) -> list[str]:
    return [f"{1000 * quantile:.0f}" for quantile in np.quantile(seconds, [0.5, 0.95])]


def main(arguments: list[str]) -> None:
    """Measure, and print the table."""
    options = read_options(Options, arguments)
    with client_of(options.lake) as client:
        items = client.ask("SELECT items FROM index_history WHERE status = 'published'")[0][0]
        print(markdown_table([["ms", "p50", "p95"], *measure(client, options)]))
    print(f"\n{items:,} items, {options.searches} searches, {os.cpu_count()} CPU cores")


if __name__ == "__main__":
    main(sys.argv[1:])
