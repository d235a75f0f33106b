"""What the demo's lake holds in the end: night by night, the gates, three searches, the report, and where time went."""

import datetime as dt
import sys
import time
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import Row
from rich.console import Console
from rich.table import Table

from jobs.core.console import open_console, quieten_process
from jobs.core.lake import Lake
from jobs.core.session import open_session
from jobs.index.search import open_searcher, query_encoder
from jobs.operations.night import published_build
from schemas import INDEX_BUILDS, JOB_RUNS
from scripts.environment import log_dir

SEARCHES = 3
RESULTS = 5


def nights(runs: list[Row]) -> Table:
    """A row a date: what the ingest found, and how many vectors that cost."""
    table = Table(title="Night by night", title_justify="left")
    for column in ("night", "came", "refused", "new", "changed", "gone", "embedded", "failed", "verdicts"):
        table.add_column(column, justify="left" if column in ("night", "verdicts") else "right")
    for date in sorted({run["logical_date"] for run in runs if run["logical_date"]}):
        of_date = [run for run in runs if run["logical_date"] == date]
        ingests = [run for run in of_date if run["job"] == "catalog ingest"]
        embeddings = [run for run in of_date if run["job"] == "embedding items"]
        counts = [
            ingests[-1]["rows_in"],
            ingests[-1]["rows_rejected"],
            *(_sum_of_figure(ingests, f"items_{kind}") for kind in ("new", "content", "departed")),
            sum(run["rows_out"] or 0 for run in embeddings),
            sum(run["rows_rejected"] or 0 for run in embeddings),
        ]
        table.add_row(str(date), *(f"{count:,.0f}" for count in counts), _verdicts(of_date))
    return table


def _sum_of_figure(runs: list[Row], name: str) -> float:
    """Over all runs of a date: the training run ingests first, the night then finds nothing left to change."""
    return sum(run["figures"].get(name, 0) for run in runs)


def _verdicts(runs: list[Row]) -> str:
    counts: dict[str, int] = defaultdict(int)
    for run in runs:
        counts[run["verdict"]] += 1
    return ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))


def gates(lake: Lake) -> Table:
    """The published build's gates, figure against bound."""
    build = published_build(lake.read(INDEX_BUILDS))
    table = Table(title=f"Gates of {build.build_id}, {build.items:,} items, published", title_justify="left")
    for column in ("gate", "figure", "bound", "", "detail"):
        table.add_column(column, justify="right" if column in ("figure", "bound") else "left")
    for gate in build.gates:
        numbers = ("" if number is None else f"{number:.4f}" for number in (gate.figure, gate.bound))
        holds = "holds" if gate.passed else "missed" if gate.blocking else "reported"
        table.add_row(gate.gate, *numbers, holds, gate.detail or "")
    return table


def searches(lake: Lake, data: Path) -> list[Table]:
    """The published build's answers to a few of the judged queries; what the judges call relevant is marked."""
    judged = pq.read_table(data / "judged_queries.parquet").sort_by("query_id").to_pylist()
    judgments = pq.read_table(data / "judgments.parquet").to_pylist()
    searcher = open_searcher(lake, None)
    encoder = query_encoder(lake, searcher)
    items = searcher.items(["item_id", "title"])
    tables = []
    for query in judged[:: max(1, len(judged) // SEARCHES)][:SEARCHES]:
        relevant = {row["item_id"] for row in judgments if row["query_id"] == query["query_id"]}
        found = searcher.search(encoder.embed_queries([query["query"]]), RESULTS)
        table = Table(title=f'Search: "{query["query"]}" ({len(relevant)} relevant)', title_justify="left")
        for column in ("score", "title", "relevant"):
            table.add_column(column, justify="right" if column == "score" else "left")
        for score, item in zip(found.scores[0], items.take(found.rows[0]).to_pylist(), strict=True):
            table.add_row(f"{score:.3f}", item["title"], "yes" if item["item_id"] in relevant else "")
        tables.append(table)
    return tables


def print_summary(console: Console, lake: Lake, data: Path, started: float) -> None:
    """Print everything; `started` is when the demo began, in seconds since 1970."""
    runs = lake.read(JOB_RUNS).orderBy("finished_at").collect()
    for table in (nights(runs), gates(lake), *searches(lake, data)):
        console.print(table, soft_wrap=False)
    for run in runs:
        if run["job"] in ("training report", "operations report"):
            console.print(f"{run['job']} of {run['logical_date']}: {lake.path('reports', run['run_id'])}/index.html")
    start_up = sum(run["seconds"].get("startup", 0.0) for run in runs)
    total = time.time() - started
    console.print(
        f"{dt.timedelta(seconds=round(total))} in all, of which {start_up:.0f} s were the start-up of {len(runs)} "
        "Spark processes: a fixed price, whatever the size of the catalog."
    )


def main(lake: str, data: str, started: str) -> None:
    """Open the lake once and print the summary."""
    console = open_console()
    quieten_process(log_dir() / "jobs.log")
    print_summary(console, Lake(open_session("demo summary"), lake), Path(data), float(started))


if __name__ == "__main__":
    main(*sys.argv[1:])
