"""Tables of vectors: items, head queries, and the rows that could not be embedded."""

from schemas.table import DATE, FLOAT, FLOATS, INT, LONG, STRING, Column, Table

_UNIT_NORM = "abs(aggregate(embedding, 0D, (s, x) -> s + CAST(x AS DOUBLE) * x) - 1) < 1e-3"

ITEM_EMBEDDINGS = Table(
    name="item_embeddings",
    comment="One vector an item and model version; what the index is built from.",
    columns=(
        Column("item_id", STRING, "The seller's identifier.", nullable=False),
        Column("model_version", STRING, "The model that made the vector.", nullable=False),
        Column("content_hash", STRING, "The content that it was made from, as in items.", nullable=False),
        Column("embedding", FLOATS, "Unit-norm vector, query-independent.", nullable=False, derived=True),
        Column("title_weight", FLOAT, "Modal Adaptation's weight for the title, 0..1.", nullable=False, derived=True),
        Column(
            "image_weight",
            FLOAT,
            "Modal Adaptation's weight for the photo, 0..1; 0 without one.",
            nullable=False,
            derived=True,
        ),
        Column(
            "photo_effect", FLOAT, "1 - cosine to the vector without the photo, 0..2.", nullable=False, derived=True
        ),
        Column("image_status", STRING, "ok, missing or broken.", nullable=False, derived=True),
        Column("run_id", STRING, "The run that wrote the row.", nullable=False, provenance=True),
    ),
    key=("item_id", "model_version"),
    partitioned_by=("model_version",),
    checks={
        "unit_norm": _UNIT_NORM,
        "weights_sum_to_one": "abs(title_weight + image_weight - 1) < 1e-3",
        "known_image_status": "image_status IN ('ok', 'missing', 'broken')",
    },
    # A merge goes into one partition, all of whose rows Delta would else have one task write.
    properties={"delta.enableChangeDataFeed": "true", "delta.autoOptimize.optimizeWrite": "true"},
)

EMBEDDING_FAILURES = Table(
    name="embedding_failures",
    comment="Items that could not be embedded, tried again on later nights up to a cap.",
    columns=(
        Column("item_id", STRING, "The seller's identifier.", nullable=False),
        Column("model_version", STRING, "The model that failed on it.", nullable=False),
        Column("content_hash", STRING, "The content that failed.", nullable=False),
        Column("reason", STRING, "What went wrong, as the model said it.", nullable=False, statistics=False),
        Column("attempts", INT, "Nights that tried; one attempt a logical date.", nullable=False),
        Column("last_attempt", DATE, "Logical date of the last try.", nullable=False),
    ),
    key=("item_id", "model_version"),
    partitioned_by=("model_version",),
    checks={"attempts_positive": "attempts >= 1"},
)

QUERY_EMBEDDINGS = Table(
    name="query_embeddings",
    comment="Vectors of the head queries, so that analysts can join without Python.",
    columns=(
        Column("query", STRING, "Normalised query.", nullable=False),
        Column("model_version", STRING, "The model that made the vector.", nullable=False),
        Column("embedding", FLOATS, "Unit-norm vector.", nullable=False),
        Column("impressions", LONG, "How often the query was shown results in its window.", nullable=False),
        Column("run_id", STRING, "The run that wrote the row.", nullable=False, provenance=True),
    ),
    key=("query", "model_version"),
    partitioned_by=("model_version",),
    checks={"unit_norm": _UNIT_NORM},
)
