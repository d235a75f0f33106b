"""Search a build: one query to the screen, or a Parquet file of queries to a Parquet file of results.

Reads:  models/<model_version>/, indexes/CURRENT, indexes/<build_id>/
Writes: the file that --output names
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from pydantic import Field, model_validator
from rich.table import Table

from jobs.core.job import JobError, JobOptions, JobRun, main
from jobs.core.lake import Lake
from jobs.index.builds import INDEXES, find_build, refuse_removed
from jobs.index.manifest import BuildIntegrityError
from jobs.index.searcher import Neighbours, Searcher
from models.encoder import Encoder

_QUERIES_AT_ONCE = 512
_SHOWN = ("item_id", "title", "category", "price", "title_weight", "image_weight", "image_status")


class Options(JobOptions):
    """Search a build: one query to the screen, or a Parquet file of queries to a Parquet file of results."""

    query: str | None = Field(None, description="One query; the results are printed.")
    queries: str | None = Field(None, description="Parquet file with query_id and query.")
    output: str | None = Field(None, description="Parquet file to write: query_id, query, rank, item_id, score.")
    k: int = Field(10, ge=1, le=10_000, description="Results a query.")
    build_id: str | None = Field(None, description="Search this build instead of the published one.")
    exact: bool = Field(False, description="Compare with every vector instead of asking the index.")

    @model_validator(mode="after")
    def _one_way(self) -> Options:
        if (self.query is None) == (self.queries is None):
            raise ValueError("name either --query or --queries")
        if (self.queries is None) != (self.output is None):
            raise ValueError("--queries and --output go together")
        if self.query is not None and not self.query.strip():
            raise ValueError("--query is blank")
        return self


def open_build(lake: Lake, build_id: str | None) -> tuple[Searcher, Encoder]:
    """A build, the published one by default, and the query encoder of the model that made it.

    Raises:
        JobError: There is no such build, its files were changed, or its model is not in the lake.
    """
    indexes = lake.uri(INDEXES)
    try:
        searcher = Searcher.open(f"{indexes}/{build_id}") if build_id else Searcher.published(indexes)
    except BuildIntegrityError as error:
        build = find_build(lake, build_id) if build_id else None
        if build is not None:
            refuse_removed(build)
        raise JobError(f"{build_id or 'the published build'} cannot be searched: {error}") from error
    return searcher, query_encoder(lake, searcher)


def query_encoder(lake: Lake, searcher: Searcher) -> Encoder:
    """The encoder that made a build's vectors: the only one whose queries may search it.

    Raises:
        JobError: The model's folder is absent, or holds another version.
    """
    version = searcher.manifest.model_version
    try:
        encoder = Encoder.from_folder(lake.local_dir("models", version))
    except (FileNotFoundError, ValueError) as error:
        raise JobError(f"{searcher.manifest.build_id} needs the model {version} to encode queries: {error}") from error
    if encoder.model_version != version:
        raise JobError(f"models/{version} holds {encoder.model_version}: a build is searched by its own model only")
    return encoder


def results_of(queries: pa.Table, found: Neighbours, item_ids: pa.ChunkedArray) -> pa.Table:
    """A row a result: query_id, query, rank from 1, item_id, score; fewer than k where the build has fewer items."""
    query_rows, ranks = np.nonzero(found.rows >= 0)
    return (
        queries.select(["query_id", "query"])
        .take(query_rows)
        .append_column("rank", pa.array(ranks + 1, pa.int32()))
        .append_column("item_id", item_ids.take(found.rows[query_rows, ranks]))
        .append_column("score", pa.array(found.scores[query_rows, ranks]))
    )


def run(job: JobRun, options: Options) -> None:
    """Open the build, then answer."""
    with job.stage("open"):
        searcher, encoder = open_build(job.lake, options.build_id)
    if options.query is not None:
        _print_results(job, options, searcher, encoder)
    else:
        _answer_file(job, options, searcher, encoder)


def _print_results(job: JobRun, options: Options, searcher: Searcher, encoder: Encoder) -> None:
    with job.stage("search"):
        start = time.perf_counter()
        found = searcher.search(encoder.embed_queries([options.query]), options.k, exact=options.exact)
        seconds = time.perf_counter() - start
    rows = found.rows[0][found.rows[0] >= 0]
    items = searcher.items(_SHOWN).take(rows).to_pylist()
    table = Table(
        title=f'"{options.query}" in {searcher.manifest.build_id}, {1000 * seconds:.0f} ms', title_justify="left"
    )
    for name, justify in (("rank", "right"), ("score", "right"), ("title", "left"), ("category", "left")):
        table.add_column(name, justify=justify)
    table.add_column("title/photo", justify="right")
    table.add_column("item_id")
    for rank, (item, score) in enumerate(zip(items, found.scores[0], strict=False), start=1):
        photo = f"{item['image_weight']:.2f}" if item["image_status"] == "ok" else item["image_status"]
        weights = f"{item['title_weight']:.2f}/{photo}"
        table.add_row(str(rank), f"{score:.3f}", item["title"], item["category"] or "", weights, item["item_id"])
    job.console.print(table, soft_wrap=False)
    job.count(rows_in=1, rows_out=len(items))


def _answer_file(job: JobRun, options: Options, searcher: Searcher, encoder: Encoder) -> None:
    with job.stage("read"):
        queries = _read_queries(options.queries)
    is_blank = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(queries["query"], "")), "")
    asked = queries.filter(pc.invert(is_blank))
    blank = len(queries) - len(asked)
    if blank:
        job.note(f"{blank:,} of {len(queries):,} queries are blank and get no results")
    if not len(asked):
        raise JobError(f"--queries {options.queries}: none of {len(queries):,} rows has a query to search for")
    item_ids = searcher.items(["item_id"])["item_id"]
    results = []
    with job.progress("search", total=len(asked)) as advance:
        for start in range(0, len(asked), _QUERIES_AT_ONCE):
            part = asked.slice(start, _QUERIES_AT_ONCE)
            with job.stage("encode"):
                vectors = encoder.embed_queries(part["query"].to_pylist())
            with job.stage("search"):
                found = searcher.search(vectors, options.k, exact=options.exact)
            results.append(results_of(part, found, item_ids))
            advance(len(part))
    with job.stage("write"):
        table = pa.concat_tables(results)
        fs, path = url_to_fs(options.output)
        with fs.open(path, "wb") as file:
            pq.write_table(table, file)
    job.count(rows_in=len(queries), rows_out=len(asked), rows_rejected=blank)
    job.note(f"{len(table):,} results of {searcher.manifest.build_id} are in {options.output}")


def _read_queries(path: str) -> pa.Table:
    fs, root = url_to_fs(path)
    if not fs.exists(root):
        raise JobError(f"--queries {path}: nothing is there; expected a Parquet file with query_id and query")
    table = pq.read_table(root, filesystem=fs)
    missing = {"query_id", "query"} - set(table.column_names)
    if missing:
        raise JobError(f"--queries {path}: expected columns query_id and query, got {table.column_names}")
    return table.select(["query_id", "query"])


if __name__ == "__main__":
    main(run, Options)
