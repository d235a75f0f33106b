"""Search a build: by one query, or by an item, to the screen; or by a table of queries to one of results.

Reads:  models/<model_version>/, indexes/CURRENT, indexes/<build_id>/
Writes: the folder that --output names
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
from fsspec.core import url_to_fs
from pydantic import Field, model_validator
from pyspark.sql import functions as F
from rich.table import Table

from jobs.core.job import JobError, JobOptions, JobRun, main
from jobs.core.lake import Lake
from jobs.core.options import CommaSeparated
from jobs.core.sources import read_source
from jobs.index.builds import INDEXES, find_build, refuse_removed
from jobs.index.filters import ItemFilter
from jobs.index.knn_join import knn_join
from jobs.index.manifest import BuildIntegrityError
from jobs.index.searcher import Searcher

if TYPE_CHECKING:
    from models.encoder import Encoder

_SHOWN = ("item_id", "title", "category", "price", "title_weight", "image_weight", "image_status")


class Options(JobOptions):
    """Search a build: by one query, or by an item, to the screen; or by a table of queries to one of results."""

    query: str | None = Field(None, description="One query; the results are printed.")
    like: str | None = Field(None, description="An item of the build; those most like it are printed.")
    queries: str | None = Field(None, description="Table of query_id, query: Parquet, CSV, JSON lines or Delta.")
    output: str | None = Field(
        None, description="Folder of Parquet files to write: query_id, query, rank, item_id, score."
    )
    k: int = Field(10, ge=1, le=10_000, description="Results a query.")
    build_id: str | None = Field(None, description="Search this build instead of the published one.")
    exact: bool = Field(False, description="Compare with every vector instead of asking the index.")
    category: str | None = Field(None, description="Find items of this category only.")
    min_price: float | None = Field(None, description="Find items of at least this price only.")
    max_price: float | None = Field(None, description="Find items of at most this price only.")
    in_stock: bool = Field(False, description="Find items in stock only.")
    item_ids: CommaSeparated[str] | None = Field(None, description="Find some of these items only, as a,b.")

    @model_validator(mode="after")
    def _one_way(self) -> Options:
        if [self.query, self.like, self.queries].count(None) != 2:
            raise ValueError("name either --query, --like or --queries")
        if (self.queries is None) != (self.output is None):
            raise ValueError("--queries and --output go together")
        if self.query is not None and not self.query.strip():
            raise ValueError("--query is blank")
        return self


def open_searcher(lake: Lake, build_id: str | None) -> Searcher:
    """A build opened for search, the published one by default.

    Raises:
        JobError: There is no such build, or its files were changed.
    """
    indexes = lake.uri(INDEXES)
    try:
        return Searcher.open(f"{indexes}/{build_id}") if build_id else Searcher.published(indexes)
    except BuildIntegrityError as error:
        build = find_build(lake, build_id) if build_id else None
        if build is not None:
            refuse_removed(build)
        raise JobError(f"{build_id or 'the published build'} cannot be searched: {error}") from error


def query_encoder(lake: Lake, searcher: Searcher) -> Encoder:
    """The encoder that made a build's vectors: the only one whose queries may search it.

    Raises:
        JobError: The model's folder is absent, or holds another version.
    """
    # Here, because torch takes seconds to import, and a search by item does without.
    from models.encoder import Encoder

    version = searcher.manifest.model_version
    try:
        encoder = Encoder.from_folder(lake.local_dir("models", version))
    except (FileNotFoundError, ValueError) as error:
        raise JobError(f"{searcher.manifest.build_id} needs the model {version} to encode queries: {error}") from error
    if encoder.model_version != version:
        raise JobError(f"models/{version} holds {encoder.model_version}: a build is searched by its own model only")
    return encoder


def run(job: JobRun, options: Options) -> None:
    """Answer: here, or in as many tasks as there are slots."""
    conditions = ItemFilter(
        category=options.category,
        min_price=options.min_price,
        max_price=options.max_price,
        in_stock=True if options.in_stock else None,
        item_ids=options.item_ids,
    )
    if options.queries is None:
        _print_results(job, options, conditions)
    else:
        _answer_file(job, options, conditions)


def _print_results(job: JobRun, options: Options, conditions: ItemFilter) -> None:
    with job.stage("open"):
        searcher = open_searcher(job.lake, options.build_id)
    only = conditions.rows_of(searcher)
    if only is not None:
        job.note(f"{np.count_nonzero(only):,} of {len(searcher):,} items meet the conditions")
    if options.like is not None:
        asked, rows = f"Like {options.like}", np.array([_row_of(searcher, options.like)])
        answer = partial(searcher.search_like, rows)
    else:
        with job.stage("open"):
            encoder = query_encoder(job.lake, searcher)
        asked = f'"{options.query}"'
        answer = partial(searcher.search, encoder.embed_queries([options.query]))
    with job.stage("search"):
        start = time.perf_counter()
        found = answer(options.k, exact=options.exact, only=only)
        seconds = time.perf_counter() - start
    rows = found.rows[0][found.rows[0] >= 0]
    items = searcher.items(_SHOWN).take(rows).to_pylist()
    table = Table(title=f"{asked} in {searcher.manifest.build_id}, {1000 * seconds:.0f} ms", title_justify="left")
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


def _row_of(searcher: Searcher, item_id: str) -> int:
    row = pc.index(searcher.items(["item_id"])["item_id"], item_id).as_py()
    if row < 0:
        raise JobError(
            f"--like {item_id}: {searcher.manifest.build_id} has no such item; expected one that was active, and had "
            "a vector, when the build was made"
        )
    return row


def _answer_file(job: JobRun, options: Options, conditions: ItemFilter) -> None:
    with job.stage("read"):
        fs, output = url_to_fs(options.output)
        if fs.exists(output):
            raise JobError(f"--output {options.output} is there already: name another place, or remove it")
        job.access.sources.append(options.queries)
        queries = read_source(job.spark, options.queries, required=("query_id", "query"))
        is_asked = F.length(F.trim("query")) > 0
        count, asked = queries.agg(F.count("*"), F.count(F.when(is_asked, 1))).first()
        if not asked:
            raise JobError(f"--queries {options.queries}: none of {count:,} rows has a query to search for")
    with job.stage("open"):
        build_id = open_searcher(job.lake, options.build_id).manifest.build_id
    with job.stage("search"):
        asked_queries = queries.where(is_asked).select("query_id", "query")
        found = knn_join(
            asked_queries,
            options.k,
            lake=job.lake,
            by="query",
            build_id=build_id,
            only=conditions,
            exact=options.exact,
        )
        found.select("query_id", "query", "rank", "item_id", "score").write.parquet(options.output)
    job.count(rows_in=count, rows_out=asked, rows_rejected=count - asked)
    if count > asked:
        job.note(f"{count - asked:,} of {count:,} queries are blank and get no results")
    job.note(f"the results of {build_id} are in {options.output}")


if __name__ == "__main__":
    main(run, Options)
