"""A build on judged queries: against the published build, and against what chance finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import Row

from jobs.core.job import JobRun
from jobs.core.judgments import JudgedOptions, count_judged_run, read_judged_queries
from jobs.index.gates import Gate, judged_floor_gate, judged_gate
from jobs.index.search import query_encoder
from jobs.index.searcher import Searcher
from models.retrieval_metrics import ndcg_at_k, recall_at_k

if TYPE_CHECKING:
    from models.encoder import Encoder

_RECALL, _NDCG = "judged_recall_at_10", "judged_ndcg_at_10"


def judged_figures(searcher: Searcher, encoder: Encoder, queries: list[Row]) -> dict[str, dict[str, float]]:
    """recall@10 and nDCG@10 of judged queries, encoded by the build's own model: figure to query_id to value.

    Only items that the build holds count as relevant, so that a delisted item is no build's fault; queries that have
    none left are absent.
    """
    item_ids = np.array(searcher.items(["item_id"])["item_id"].to_pylist(), dtype=object)
    pool = set(item_ids)
    relevant = {query["query_id"]: pool.intersection(query["relevant"]) for query in queries}
    asked = [query for query in queries if relevant[query["query_id"]]]
    rows = searcher.search(encoder.embed_queries([query["query"] for query in asked]), 10).rows
    ranked = [item_ids[of_query[of_query >= 0]].tolist() for of_query in rows]
    ids = [query["query_id"] for query in asked]
    wanted = [relevant[query_id] for query_id in ids]
    figures = {_RECALL: recall_at_k(ranked, wanted, 10), _NDCG: ndcg_at_k(ranked, wanted, 10)}
    return {name: dict(zip(ids, values.tolist(), strict=True)) for name, values in figures.items()}


def judged_gates(
    job: JobRun,
    old: Searcher | None,
    new: Searcher,
    encoder: Encoder,
    options: JudgedOptions,
    *,
    min_recall: float,
    max_loss: float,
) -> list[Gate]:
    """Quality on the judged queries that both builds can serve.

    Args:
        job: The run, whose record counts how often these queries were used.
        old: The published build; without one nothing can be lost, and the floor alone may fail.
        new: The build.
        encoder: The build's own model.
        options: Where the queries lie.
        min_recall: Least recall@10 beyond what chance finds.
        max_loss: How much of the published build's figures may be lost.
    """
    queries = read_judged_queries(job, options).orderBy("query_id").collect()
    count_judged_run(job, [(query["query_id"], query["query"]) for query in queries])
    figures = judged_figures(new, encoder, queries)
    if not figures[_RECALL]:
        job.note("no judged query has a relevant item in the build: they are not used")
        return []
    floor = judged_floor_gate(np.array(list(figures[_RECALL].values())), items=len(new), beyond_chance=min_recall)
    before = None
    if old is not None:
        same_model = old.manifest.model_version == encoder.model_version
        before = judged_figures(old, encoder if same_model else query_encoder(job.lake, old), queries)
    ids = [query_id for query_id in figures[_RECALL] if before is None or query_id in before[_RECALL]]
    if not ids:
        job.note("no judged query has a relevant item in both builds: the two are not compared")
        return [floor]
    compared = [
        judged_gate(
            name,
            np.array([figures[name][query_id] for query_id in ids]),
            None if before is None else np.array([before[name][query_id] for query_id in ids]),
            max_loss=max_loss,
            detail=f"{len(ids):,} judged queries",
        )
        for name in figures
    ]
    return [*compared, floor]
