"""Views that answer the questions which analysts ask most, over the tables of the lake."""

from dataclasses import dataclass

from schemas import INDEX_BUILDS, ITEM_EMBEDDINGS, ITEMS, JOB_RUNS, REJECTED_ROWS
from schemas.table import Table


@dataclass(frozen=True)
class View:
    """One view; it exists where all that it reads exists.

    Args:
        reads: Tables below it.
        query: Its SELECT, over the tables as `make.<table>`.
    """

    name: str
    comment: str
    reads: tuple[Table, ...]
    query: str


VIEWS = (
    View(
        "current_items",
        "Active items with their vector and weights under the published build's model; NULL where there is none yet.",
        (ITEMS, ITEM_EMBEDDINGS, INDEX_BUILDS),
        """
        SELECT i.item_id, i.title, i.category, i.price, i.in_stock, i.image_uri, i.image_sha256, i.first_seen,
               i.snapshot_date, e.model_version, e.title_weight, e.image_weight, e.photo_effect, e.image_status,
               e.embedding
        FROM make.items i
        LEFT JOIN make.index_builds b ON b.status = 'published'
        LEFT JOIN make.item_embeddings e
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
        FROM make.current_items
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
            FROM make.job_runs
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
        FROM make.rejected_rows
        GROUP BY logical_date, source, reason
        """,
    ),
    View(
        "index_history",
        "Every build with a row for each of its gates; the gate's columns are NULL before the check.",
        (INDEX_BUILDS,),
        """
        SELECT b.logical_date, b.build_id, b.model_version, b.items, b.status, b.published_at, b.hold,
               g.gate, g.figure, g.bound, g.passed, g.blocking, g.detail
        FROM make.index_builds b LATERAL VIEW OUTER inline(b.gates) g AS gate, figure, bound, passed, blocking, detail
        """,
    ),
)
