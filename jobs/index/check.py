"""Judge the night's build by its gates; a build that fails one is recorded as failed and never published.

Reads:  index_builds, items, item_images, query_embeddings, models, indexes/<build_id>/; judged queries where they are
        configured; query_neighbours once they are written
Writes: index_builds; of a build that passes, duplicate_items and query_neighbours
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
from pydantic import Field
from pyspark.sql import Row
from pyspark.sql import functions as F
from rich.table import Table

from jobs.core.job import JobError, JobRun, main
from jobs.core.judgments import JudgedOptions
from jobs.index.budgets import latency_gate, size_gate
from jobs.index.builds import INDEXES, build_of_night, items_of, published_build, record_build
from jobs.index.comparison import comparison_gates
from jobs.index.gates import CEILINGS, Gate, recall_gate, shard_recall_gate
from jobs.index.judged import judged_gates
from jobs.index.manifest import BuildIntegrityError
from jobs.index.neighbours import record_duplicates, record_query_neighbours
from jobs.index.search import query_encoder
from jobs.index.searcher import Searcher
from jobs.index.soundness import agreement_gate, norm_gate, open_sound
from schemas import ITEMS, QUERY_EMBEDDINGS

# What no two runs measure alike: time, and how other hardware rounds.
_VARYING = ("latency_p95_ms", "model_agreement")


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
    min_shard_recall_at_100: float = Field(0.85, ge=0, le=1, description="Least recall@100 of the worst shard.")
    min_coverage: float = Field(0.99, ge=0, le=1, description="Least share of active items in the build.")
    max_norm_error: float = Field(1e-3, ge=0, description="How far a vector's norm may be from 1.")
    agreement_items: int = Field(
        64, ge=0, le=1_000, description="Items that are embedded anew, to compare with their vectors; 0: none."
    )
    max_disagreement: float = Field(0.01, ge=0, description="Most 1 - cosine of a vector and the one made anew.")
    max_drift: float = Field(0.01, ge=0, description="Most 1 - cosine of an unchanged item's old and new vector.")
    max_churn: float = Field(0.5, ge=0, le=1, description="Most share of unchanged neighbours that may be displaced.")
    max_category_churn: float = Field(0.6, ge=0, le=1, description="The same of the worst category.")
    min_judged_recall_at_10: float = Field(
        0.05, ge=0, le=1, description="Least recall@10 on judged queries, beyond what chance finds."
    )
    max_judged_loss: float = Field(
        0.02, ge=0, le=1, description="How far recall@10 and nDCG@10 on judged queries may fall, beyond chance."
    )
    max_size: float = Field(2.0, gt=0, description="Most bytes of the index, as a multiple of its vectors' own.")
    max_latency_ms: float = Field(100, gt=0, description="Most milliseconds of 95 in 100 single searches.")
    min_duplicate_score: float = Field(
        0.98, ge=0, le=1, description="Least cosine of items that are recorded as nearly the same."
    )
    min_query_score: float = Field(
        0.5, ge=-1, le=1, description="Least cosine of a head query and its best item for it to count as covered."
    )


def recall_gates(searcher: Searcher, queries: np.ndarray, source: str, options: Options) -> list[Gate]:
    """Recall of the index against exact search: at 10, at 100, and at 100 of the worst shard."""
    bounds = {10: options.min_recall_at_10, 100: options.min_recall_at_100}
    exact = searcher.search(queries, max(bounds), exact=True)
    # Each depth by a search of its own: one for more results works harder, and finds more of the first ones.
    found = {k: searcher.search(queries, k) for k in bounds}
    merged = [recall_gate(found[k], exact, k=k, bound=bound, source=source) for k, bound in bounds.items()]
    rows = {shard.file: shard.rows for shard in searcher.manifest.shards}
    worst = shard_recall_gate(found[max(bounds)], exact, rows, bound=options.min_shard_recall_at_100)
    return merged if worst is None else [*merged, worst]


def coverage_gate(job: JobRun, searcher: Searcher, bound: float) -> Gate:
    """Active items that the build holds with their present content."""
    held = items_of(job.lake, searcher.manifest, job.spark).select("item_id", "content_hash", F.lit(True).alias("held"))
    active = job.lake.read(ITEMS).where("is_active").join(held, on=["item_id", "content_hash"], how="left")
    counts = active.agg(
        F.count("*").alias("active"),
        F.count("held").alias("covered"),
        F.min(F.when(F.col("held").isNull(), F.col("item_id"))).alias("example"),
    ).first()
    detail = f"{counts['covered']:,} of {counts['active']:,} active items"
    if counts["example"] is not None:
        detail += f"; without: {counts['example']}" + (", ..." if counts["active"] - counts["covered"] > 1 else "")
    return Gate.of("coverage", counts["covered"] / max(1, counts["active"]), bound, detail)


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


def measured_gates(job: JobRun, new: Searcher, old: Searcher | None, options: Options) -> list[Gate]:
    """Every gate of a sound build, against the published one where there is one."""
    with job.stage("recall"):
        queries, source = head_queries(job, new, options.recall_queries)
        gates = recall_gates(new, queries, source, options)
    with job.stage("coverage"):
        gates.append(coverage_gate(job, new, options.min_coverage))
    with job.stage("norms"):
        gates.append(norm_gate(new, options.max_norm_error))
    with job.stage("open"):
        encoder = query_encoder(job.lake, new) if options.agreement_items or options.judged_queries else None
    if options.agreement_items:
        with job.stage("agreement"):
            sample, bound = options.agreement_items, options.max_disagreement
            gates.append(agreement_gate(job.lake, new, encoder, sample=sample, bound=bound))
    if old is not None:
        with job.stage("compare"):
            gates += comparison_gates(
                old,
                new,
                max_drift=options.max_drift,
                max_churn=options.max_churn,
                max_category_churn=options.max_category_churn,
            )
    if options.judged_queries:
        with job.stage("judged"):
            floor, loss = options.min_judged_recall_at_10, options.max_judged_loss
            gates += judged_gates(job, old, new, encoder, options, min_recall=floor, max_loss=loss)
    with job.stage("budgets"):
        gates += [size_gate(job.lake, new, options.max_size), latency_gate(new, queries, options.max_latency_ms)]
    return gates


def as_recorded(gates: Sequence[Gate], recorded: Sequence[Row] | None) -> list[Gate]:
    """The gates; one whose figure varies from run to run stays as it is recorded while its verdict is the same."""
    before = {row["gate"]: Gate(**row.asDict()) for row in recorded or () if row["gate"] in _VARYING}

    def settled(gate: Gate) -> Gate:
        was = before.get(gate.gate, gate)
        return was if gate == replace(was, figure=gate.figure, detail=gate.detail) else gate

    return [settled(gate) for gate in gates]


def run(job: JobRun, options: Options) -> None:
    """Measure, record the verdict, then fail when a blocking gate did."""
    build = build_of_night(job.lake, date=options.date, build_id=options.build_id, model_version=options.model_version)
    build_id = build["build_id"]
    if build["status"] in ("published", "superseded"):
        job.unchanged()
        job.note(f"{build_id} of {build['logical_date']} is {build['status']}: its gates stand as recorded")
        return
    published = published_build(job.lake)
    with job.stage("open"):
        new, gates = open_sound(job.lake.uri(INDEXES, build_id), build)
    if new is not None:
        gates += measured_gates(job, new, _open_published(job, published), options)
    gates = as_recorded(gates, build["gates"])

    missed = [gate for gate in gates if gate.blocking and not gate.passed]
    if new is not None and not missed:
        with job.stage("neighbours"):
            record_neighbours(job, new, options)
    verdict = {"gates": [asdict(gate) for gate in gates], "status": "failed" if missed else "passed"}
    with job.stage("record"):
        if not record_build(job, {**build.asDict(recursive=True), **verdict}):
            job.unchanged()
    for gate in gates:
        job.figure(gate.gate, gate.figure)
    job.console.print(gates_table(build_id, gates), soft_wrap=False)
    if missed:
        left = f"{published['build_id']} stays published" if published is not None else "Nothing is published"
        raise JobError(f"{build_id} is not published: {'; '.join(map(str, missed))}. {left}")
    job.note(f"{build_id} passed {len(gates)} gates")


def record_neighbours(job: JobRun, searcher: Searcher, options: Options) -> None:
    """Record what analysts ask a build about without searching it: duplicates, and queries that it does not cover."""
    job.figure("duplicates", record_duplicates(job, searcher, min_score=options.min_duplicate_score))
    queries, covered = record_query_neighbours(job, searcher, min_score=options.min_query_score)
    job.figure("uncovered_queries", queries - covered)


def _open_published(job: JobRun, published: Row | None) -> Searcher | None:
    """The published build, where there is one that can be read."""
    if published is None:
        return None
    try:
        with job.stage("open"):
            return Searcher.open(job.lake.uri(INDEXES, published["build_id"]))
    except BuildIntegrityError as error:
        job.note(f"nothing is compared with the published {published['build_id']}, which cannot be read: {error}")
        return None


def gates_table(build_id: str, gates: Sequence[Gate]) -> Table:
    """The gates as a person reads them."""
    table = Table(title=f"Gates of {build_id}", title_justify="left")
    for name in ("gate", "figure", "bound", "verdict", "detail"):
        table.add_column(name, justify="right" if name in ("figure", "bound") else "left")
    for gate in gates:
        verdict = "passed" if gate.passed else "FAILED" if gate.blocking else "told only"
        side = "≤" if gate.gate in CEILINGS else "≥"
        table.add_row(gate.gate, f"{gate.figure:.4f}", f"{side} {gate.bound:g}", verdict, gate.detail)
    return table


if __name__ == "__main__":
    main(run, Options)
