"""Views that answer the questions which analysts ask most, over the tables of the lake."""

from dataclasses import dataclass

from schemas import (
    DUPLICATE_ITEMS,
    INDEX_BUILDS,
    ITEM_EMBEDDINGS,
    ITEMS,
    JOB_RUNS,
    QUERY_NEIGHBOURS,
    REJECTED_ROWS,
)
from schemas.table import Table


@dataclass(frozen=True)
class View:
    """One view; it exists where all that it reads exists.

    Args:
        reads: Tables below it.
        query: Its SELECT, over the tables as `{database}.<table>`.
    """

    name: str
    comment: str
    reads: tuple[Table, ...]
    query: str


# Gates that have a column of their own where builds are compared.
_GATES = (
    "recall_at_10",
    "recall_at_100",
    "worst_shard_recall_at_100",
    "coverage",
    "norms",
    "model_agreement",
    "drift",
    "neighbour_churn",
    "worst_category_churn",
    "judged_recall_at_10",
    "judged_ndcg_at_10",
    "size",
    "latency_p95_ms",
)


def _figure(gate: str) -> str:
    return f"try_element_at(filter(gates, g -> g.gate = '{gate}'), 1).figure AS {gate}"


VIEWS = (
    View(
        "current_items",
        "Active items with their vector and weights under the published build's model; NULL where there is none yet.",
        (ITEMS, ITEM_EMBEDDINGS, INDEX_BUILDS),
        """
        SELECT i.item_id, i.title, i.category, i.price, i.in_stock, i.image_uri, i.image_sha256, i.first_seen,
               i.snapshot_date, e.model_version, e.title_weight, e.image_weight, e.photo_effect, e.image_status,
               e.embedding
        FROM {database}.items i
        LEFT JOIN {database}.index_builds b ON b.status = 'published'
        LEFT JOIN {database}.item_embeddings e
               ON e.item_id = i.item_id AND e.content_hash = i.content_hash AND e.model_version = b.model_version
        WHERE i.is_active
        """,
    ),
    View(
        "modal_weights_by_category",
        "How much titles and photos weigh by category, among active items with a readable photo.",
        (ITEMS, ITEM_EMBEDDINGS, INDEX_BUILDS),
        """
        SELECT category,
               count(*) AS items,
               avg(image_weight) AS mean_image_weight,
               percentile_approx(image_weight, 0.1, 1000) AS low_image_weight,
               percentile_approx(image_weight, 0.5, 1000) AS median_image_weight,
               percentile_approx(image_weight, 0.9, 1000) AS high_image_weight,
               avg(photo_effect) AS mean_photo_effect
        FROM {database}.current_items
        WHERE image_status = 'ok'
        GROUP BY category
        """,
    ),
    View(
        "nightly_runs",
        "The newest run of every job for every logical date.",
        (JOB_RUNS,),
        """
        SELECT logical_date, job, verdict, rows_in, rows_out, rows_rejected,
               (unix_micros(finished_at) - unix_micros(started_at)) / 1e6 AS wall_seconds,
               seconds['startup'] AS startup_seconds, started_at, finished_at, run_id, notes
        FROM (
            SELECT *, row_number() OVER (
                PARTITION BY logical_date, job ORDER BY finished_at DESC, started_at DESC) AS age
            FROM {database}.job_runs
            WHERE logical_date IS NOT NULL)
        WHERE age = 1
        """,
    ),
    View(
        "rejections_by_reason",
        "Rows that ingests refused, by date, source and reason; sources ending in _flags were accepted all the same.",
        (REJECTED_ROWS,),
        """
        SELECT logical_date, source, reason, count(*) AS rows
        FROM {database}.rejected_rows
        GROUP BY logical_date, source, reason
        """,
    ),
    View(
        "index_history",
        "A row for each build, its gates' figures side by side; NULL where a gate does not apply, or before the check.",
        (INDEX_BUILDS,),
        f"""
        SELECT logical_date, build_id, model_version, items, shards, index_key, status, published_at, hold,
               transform(filter(gates, g -> g.blocking AND NOT g.passed), g -> g.gate) AS failed_gates,
               {", ".join(map(_figure, _GATES))}
        FROM {{database}}.index_builds
        """,  # noqa: S608 - the names are ours
    ),
    View(
        "index_gates",
        "Every gate of every build: its figure, bound and verdict, and the words of the check.",
        (INDEX_BUILDS,),
        """
        SELECT b.logical_date, b.build_id, b.model_version, b.status,
               g.gate, g.figure, g.bound, g.passed, g.blocking, g.detail
        FROM {database}.index_builds b
        LATERAL VIEW inline(b.gates) g AS gate, figure, bound, passed, blocking, detail
        """,
    ),
    View(
        "near_duplicates",
        "Items of the published build that are nearly the same as another, group by group.",
        (DUPLICATE_ITEMS, INDEX_BUILDS, ITEMS),
        """
        SELECT d.duplicate_group, d.item_id, i.title, i.category, i.price, d.nearest_score, i.image_uri
        FROM {database}.duplicate_items d
        JOIN {database}.index_builds b ON b.build_id = d.build_id AND b.status = 'published'
        JOIN {database}.items i ON i.item_id = d.item_id
        """,
    ),
    View(
        "query_coverage",
        "How near the items are that head queries find in the published build; is_covered is false where none is near.",
        (QUERY_NEIGHBOURS, INDEX_BUILDS, ITEMS),
        """
        SELECT n.query, n.impressions, n.is_covered, n.score, n.score_at_10, n.item_id, i.title, i.category
        FROM {database}.query_neighbours n
        JOIN {database}.index_builds b ON b.build_id = n.build_id AND b.status = 'published'
        LEFT JOIN {database}.items i ON i.item_id = n.item_id
        """,
    ),
)
