"""Judge the night's build by its gates; a build that fails one is recorded as failed and never published.

Reads:  index_builds, items, query_embeddings, models, indexes/<build_id>/; judged queries where they are configured
Writes: index_builds
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from pydantic import Field
from pyspark.sql import Row
from pyspark.sql import functions as F
from rich.table import Table

from jobs.core.job import JobError, JobRun, main
from jobs.core.judgments import JudgedOptions, count_judged_run, read_judged_queries
from jobs.index.builds import INDEXES, build_of_night, published_build, record_build
from jobs.index.gates import Gate, at_least, at_most, drift, judged_gate, neighbour_churn, recall_gate
from jobs.index.manifest import BuildIntegrityError
from jobs.index.search import query_encoder
from jobs.index.searcher import Searcher
from models.retrieval_metrics import ndcg_at_k, recall_at_k
from schemas import ITEMS, QUERY_EMBEDDINGS

_DEPTH = 100
_CHURN_DEPTH = 10
# Items whose vectors and neighbours are compared between two builds.
_COMPARED_ITEMS = 1_000


class Options(JudgedOptions):
    """Judge the night's build by its gates; a build that fails one is recorded as failed and never published."""

    build_id: str | None = Field(None, description="Judge this build instead of the night's newest.")
    model_version: str | None = Field(
        None,
        description="Judge this model's build instead of the serving one's; 'promoted': the last one promoted.",
    )
    recall_queries: int = Field(500, ge=1, description="Queries that recall is measured on.")
    min_recall_at_10: float = Field(0.95, ge=0, le=1, description="Least recall@10 against exact search.")
    min_recall_at_100: float = Field(0.90, ge=0, le=1, description="Least recall@100 against exact search.")
    min_coverage: float = Field(0.99, ge=0, le=1, description="Least share of active items in the build.")
    max_norm_error: float = Field(1e-3, ge=0, description="How far a vector's norm may be from 1.")
    max_drift: float = Field(0.01, ge=0, description="Most 1 - cosine of an unchanged item's old and new vector.")
    max_churn: float = Field(0.5, ge=0, le=1, description="Most share of unchanged neighbours that may be displaced.")
    max_judged_loss: float = Field(
        0.02, ge=0, le=1, description="How far recall@10 and nDCG@10 on judged queries may fall, beyond chance."
    )


@dataclass(frozen=True)
class UnchangedItems:
    """Items that two builds hold with the same content, sampled.

    Args:
        before: Their rows in the old build.
        after: Their rows in the new build.
        row_after: For every row of the old build its row in the new one; -1 where gone or changed.
    """

    before: np.ndarray
    after: np.ndarray
    row_after: np.ndarray


def unchanged_items(old: Searcher, new: Searcher) -> UnchangedItems:
    """Match two builds by item_id and content_hash."""
    key = ["item_id", "content_hash"]
    olds, news = (build.items(key).to_pandas().reset_index(names="row") for build in (old, new))
    both = olds.merge(news, on=key, suffixes=("_before", "_after")).sort_values("item_id")
    row_after = np.full(len(old), -1)
    row_after[both["row_before"]] = both["row_after"]
    sample = np.random.default_rng(0).permutation(len(both))[:_COMPARED_ITEMS]
    return UnchangedItems(both["row_before"].to_numpy()[sample], both["row_after"].to_numpy()[sample], row_after)


def comparison_gates(old: Searcher, new: Searcher, options: Options) -> list[Gate]:
    """Drift of unchanged items' vectors and churn of their neighbours since the published build.

    Across model versions the space is new: drift means nothing there, and churn is told but does not block.
    """
    unchanged = unchanged_items(old, new)
    count = len(unchanged.before)
    if count == 0:
        return []
    same_model = old.manifest.model_version == new.manifest.model_version
    over = f"over {count:,} unchanged items, against {old.manifest.build_id}"
    before, after = old.vectors(unchanged.before), new.vectors(unchanged.after)
    gates = []
    if same_model:
        gates.append(at_most("drift", drift(before, after).max(), options.max_drift, f"largest {over}"))
    # An item is its own nearest neighbour in both builds, so one place more is looked at.
    old_rows = old.search(before, _CHURN_DEPTH + 1).rows
    rows = np.where(old_rows >= 0, unchanged.row_after[old_rows], -1)
    surviving = (rows >= 0) & (rows != unchanged.after[:, None])
    scores = np.full(rows.shape, -np.inf)
    vectors = new.vectors(rows[surviving])
    scores[surviving] = (vectors * after[np.nonzero(surviving)[0]]).sum(axis=1)
    least = new.search(after, _CHURN_DEPTH + 1).scores[:, -1]
    churn = neighbour_churn(surviving, scores, least)
    detail = f"mean {over}" if same_model else f"mean {over}; another model, so it does not block"
    gates.append(at_most("neighbour_churn", churn, options.max_churn, detail, blocking=same_model))
    return gates


def recall_gates(searcher: Searcher, queries: np.ndarray, source: str, options: Options) -> list[Gate]:
    """Recall of the index against exact search at 10 and 100."""
    found, exact = (searcher.search(queries, _DEPTH, exact=exactly) for exactly in (False, True))
    bounds = {10: options.min_recall_at_10, 100: options.min_recall_at_100}
    return [recall_gate(found, exact, k=k, bound=bound, source=source) for k, bound in bounds.items()]


def norm_gate(searcher: Searcher, bound: float) -> Gate:
    """Every vector's norm is 1."""
    errors = (np.abs(np.linalg.norm(vectors, axis=1) - 1).max() for _, vectors in searcher.iterate_vectors())
    return at_most("norms", max(errors), bound, f"largest distance of a norm from 1 over {len(searcher):,} vectors")


def coverage_gate(job: JobRun, searcher: Searcher, bound: float) -> Gate:
    """Active items that the build holds with their present content."""
    manifest = searcher.manifest
    files = [job.lake.uri(INDEXES, manifest.build_id, shard.items_file) for shard in manifest.shards]
    held = job.spark.read.parquet(*files).select("item_id", "content_hash", F.lit(True).alias("held"))
    active = job.lake.read(ITEMS).where("is_active").join(held, on=["item_id", "content_hash"], how="left")
    counts = active.agg(
        F.count("*").alias("active"),
        F.count("held").alias("covered"),
        F.min(F.when(F.col("held").isNull(), F.col("item_id"))).alias("example"),
    ).first()
    detail = f"{counts['covered']:,} of {counts['active']:,} active items"
    if counts["example"] is not None:
        detail += f"; without: {counts['example']}" + (", ..." if counts["active"] - counts["covered"] > 1 else "")
    return at_least("coverage", counts["covered"] / max(1, counts["active"]), bound, detail)


def judged_figures(job: JobRun, searcher: Searcher, queries: list[Row]) -> dict[str, dict[str, float]]:
    """recall@10 and nDCG@10 of judged queries, encoded by the build's own model: figure to query_id to value.

    Only items that the build holds count as relevant, so that a delisted item is no build's fault; queries that have
    none left are absent.
    """
    item_ids = np.array(searcher.items(["item_id"])["item_id"].to_pylist(), dtype=object)
    pool = set(item_ids)
    relevant = {query["query_id"]: pool.intersection(query["relevant"]) for query in queries}
    asked = [query for query in queries if relevant[query["query_id"]]]
    vectors = query_encoder(job.lake, searcher).embed_queries([query["query"] for query in asked])
    rows = searcher.search(vectors, 10).rows
    ranked = [item_ids[of_query[of_query >= 0]].tolist() for of_query in rows]
    ids = [query["query_id"] for query in asked]
    wanted = [relevant[query_id] for query_id in ids]
    figures = {
        "judged_recall_at_10": recall_at_k(ranked, wanted, 10),
        "judged_ndcg_at_10": ndcg_at_k(ranked, wanted, 10),
    }
    return {name: dict(zip(ids, values.tolist(), strict=True)) for name, values in figures.items()}


def judged_gates(job: JobRun, old: Searcher | None, new: Searcher, options: Options) -> list[Gate]:
    """Quality on the judged queries that both builds can serve; without a published one it is told and cannot fail."""
    queries = read_judged_queries(job.spark, options).orderBy("query_id").collect()
    count_judged_run(job, [(query["query_id"], query["query"]) for query in queries])
    figures = judged_figures(job, new, queries)
    before = judged_figures(job, old, queries) if old is not None else None
    gates = []
    for name, by_query in figures.items():
        ids = [query_id for query_id in by_query if before is None or query_id in before[name]]
        if not ids:
            job.note("no judged query has a relevant item in the build: they are not used")
            return []
        gates.append(
            judged_gate(
                name,
                np.array([by_query[query_id] for query_id in ids]),
                None if before is None else np.array([before[name][query_id] for query_id in ids]),
                max_loss=options.max_judged_loss,
                detail=f"{len(ids):,} judged queries",
            )
        )
    return gates


def head_queries(job: JobRun, searcher: Searcher, limit: int) -> tuple[np.ndarray, str]:
    """Vectors to measure recall with: the queries most often asked; before any are embedded, items themselves.

    Returns:
        (queries, dimension) float32, and what they are.
    """
    of_model = F.col("model_version") == searcher.manifest.model_version
    head = job.lake.read(QUERY_EMBEDDINGS).where(of_model).orderBy(F.desc("impressions"), "query").limit(limit)
    vectors = [row["embedding"] for row in head.select("embedding").collect()]
    if vectors:
        return np.array(vectors, dtype=np.float32), "head queries"
    rows = np.random.default_rng(0).permutation(len(searcher))[:limit]
    return searcher.vectors(rows), "items' own vectors"


def run(job: JobRun, options: Options) -> None:
    """Measure, record the verdict, then fail when a blocking gate did."""
    build = build_of_night(job.lake, date=options.date, build_id=options.build_id, model_version=options.model_version)
    if build["status"] in ("published", "superseded"):
        job.unchanged()
        job.note(f"{build['build_id']} of {build['logical_date']} is {build['status']}: its gates stand as recorded")
        return
    with job.stage("open"):
        new, old = _open_builds(job, build)
    gates = []
    with job.stage("recall"):
        queries, source = head_queries(job, new, options.recall_queries)
        gates += recall_gates(new, queries, source, options)
    with job.stage("coverage"):
        gates.append(coverage_gate(job, new, options.min_coverage))
    with job.stage("norms"):
        gates.append(norm_gate(new, options.max_norm_error))
    if old is not None:
        with job.stage("compare"):
            gates += comparison_gates(old, new, options)
    if options.judged_queries:
        with job.stage("judged"):
            gates += judged_gates(job, old, new, options)

    missed = [gate for gate in gates if gate.blocking and not gate.passed]
    status = "failed" if missed else "passed"
    verdict = {"gates": [asdict(gate) for gate in gates], "status": status}
    with job.stage("record"):
        if not record_build(job, {**build.asDict(recursive=True), **verdict}):
            job.unchanged()
    for gate in gates:
        job.figure(gate.gate, gate.figure)
    job.console.print(gates_table(build["build_id"], gates), soft_wrap=False)
    if missed:
        raise JobError(
            f"{build['build_id']} is not published: {'; '.join(map(str, missed))}. "
            f"{old.manifest.build_id + ' stays published' if old is not None else 'Nothing is published'}"
        )
    job.note(f"{build['build_id']} passed {len(gates)} gates")


def _open_builds(job: JobRun, build: Row) -> tuple[Searcher, Searcher | None]:
    """The build, and the published one where there is one that can be read."""
    try:
        new = Searcher.open(job.lake.uri(INDEXES, build["build_id"]))
    except BuildIntegrityError as error:
        raise JobError(f"{build['build_id']} cannot be judged: {error}") from error
    published = published_build(job.lake)
    if published is None:
        return new, None
    try:
        return new, Searcher.open(job.lake.uri(INDEXES, published["build_id"]))
    except BuildIntegrityError as error:
        job.note(f"nothing is compared with the published {published['build_id']}, which cannot be read: {error}")
        return new, None


def gates_table(build_id: str, gates: list[Gate]) -> Table:
    """The gates as a person reads them."""
    table = Table(title=f"Gates of {build_id}", title_justify="left")
    for name in ("gate", "figure", "bound", "verdict", "detail"):
        table.add_column(name, justify="right" if name in ("figure", "bound") else "left")
    for gate in gates:
        verdict = "passed" if gate.passed else "FAILED" if gate.blocking else "told only"
        table.add_row(gate.gate, f"{gate.figure:.4f}", f"{gate.bound:g}", verdict, gate.detail)
    return table


if __name__ == "__main__":
    main(run, Options)
