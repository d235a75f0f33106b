"""Tables of the query log: cleaned events, what was refused, and what the log teaches."""

from schemas.table import DATE, DOUBLE, INT, LONG, STRING, TIMESTAMP, Column, Table

QUERY_EVENTS = Table(
    name="query_events",
    comment="The cleaned query log: one row a distinct event.",
    columns=(
        Column("event_id", STRING, "The event's identifier; repeated deliveries share it.", nullable=False),
        Column("event_date", DATE, "UTC date of event_ts.", nullable=False),
        Column("event_ts", TIMESTAMP, "When it happened, UTC.", nullable=False),
        Column("session_id", STRING, "The shopper's session.", nullable=False),
        Column("query", STRING, "Normalised query: width, case and space folded.", nullable=False),
        Column("item_id", STRING, "The item that was shown, clicked or bought.", nullable=False),
        Column("event_type", STRING, "impression, click or purchase.", nullable=False),
        Column("position", INT, "Rank on the result page, from 1; null where the log has none."),
    ),
    key=("event_id",),
    partitioned_by=("event_date",),
    checks={
        "known_event_type": "event_type IN ('impression', 'click', 'purchase')",
        "position_from_one": "position IS NULL OR position >= 1",
    },
)

REJECTED_ROWS = Table(
    name="rejected_rows",
    comment="Whatever an ingest refused, with the reason; nothing is dropped silently.",
    columns=(
        Column(
            "source", STRING, "catalog or query_log refused it; catalog_flags took it in with a flaw.", nullable=False
        ),
        Column("logical_date", DATE, "Logical date of the run that refused it.", nullable=False),
        Column("reason", STRING, "Why, as a short stable name.", nullable=False),
        Column(
            "row",
            STRING,
            "The row as it came, as JSON; of a forgotten item its id alone.",
            nullable=False,
            statistics=False,
        ),
    ),
    partitioned_by=("source", "logical_date"),
)

QUERY_ITEM_PAIRS = Table(
    name="query_item_pairs",
    comment="What shoppers did with an item that a query showed, over the window.",
    columns=(
        Column("query", STRING, "Normalised query.", nullable=False),
        Column("item_id", STRING, "The item.", nullable=False),
        Column("impressions", LONG, "Times shown.", nullable=False),
        Column("clicks", LONG, "Times clicked.", nullable=False),
        Column("purchases", LONG, "Times bought.", nullable=False),
        Column("weight", DOUBLE, "Clicks and purchases, corrected for position bias.", nullable=False),
        Column("window_start", DATE, "First date of the window.", nullable=False, provenance=True),
        Column("window_end", DATE, "Last date of the window.", nullable=False, provenance=True),
    ),
    key=("query", "item_id"),
    checks={"counts_not_negative": "impressions >= 0 AND clicks >= 0 AND purchases >= 0 AND weight >= 0"},
)

SIMILAR_QUERIES = Table(
    name="similar_queries",
    comment="The Keyword Enhancement graph: queries whose shoppers clicked the same products. Symmetric.",
    columns=(
        Column("query", STRING, "Normalised query.", nullable=False),
        Column("similar_query", STRING, "Another query.", nullable=False),
        Column("similarity", DOUBLE, "Cosine of the two queries' click weights, 0..1.", nullable=False),
        Column("shared_items", LONG, "Products that both clicked.", nullable=False),
    ),
    key=("query", "similar_query"),
    checks={"similarity_range": "similarity > 0 AND similarity <= 1.000001", "not_itself": "query <> similar_query"},
)
