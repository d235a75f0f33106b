"""Tables of index builds: what was built, how it was judged, which one is published, and what their neighbours say."""

from pyspark.sql.types import ArrayType, BooleanType, StructField, StructType

from schemas.table import BOOLEAN, DATE, DOUBLE, FLOAT, INT, LONG, STRING, TIMESTAMP, VERSIONS, Column, Table

GATES = ArrayType(
    StructType(
        [
            StructField("gate", STRING, False),
            StructField("figure", DOUBLE, True),
            StructField("bound", DOUBLE, True),
            StructField("passed", BooleanType(), False),
            StructField("blocking", BooleanType(), False),
            StructField("detail", STRING, True),
        ]
    ),
    containsNull=False,
)

HOLD = StructType(
    [
        StructField("by", STRING, False),
        StructField("reason", STRING, False),
        StructField("until", DATE, True),
    ]
)

INDEX_BUILDS = Table(
    name="index_builds",
    comment="One index build; at most one row is published.",
    columns=(
        Column("build_id", STRING, "Digest of model, item hashes and build settings.", nullable=False),
        Column("logical_date", DATE, "The night that built it.", nullable=False),
        Column("model_version", STRING, "The one model of all its vectors.", nullable=False),
        Column("items", LONG, "Vectors in the build.", nullable=False),
        Column("dimension", INT, "Length of a vector.", nullable=False),
        Column("shards", INT, "Number of shards.", nullable=False),
        Column("index_key", STRING, "FAISS index factory string.", nullable=False),
        Column("delta_versions", VERSIONS, "Version of every table read.", nullable=False, provenance=True),
        Column("gates", GATES, "Every gate's figure, bound and verdict; null before the check."),
        Column(
            "status",
            STRING,
            "built, passed, failed, published, superseded or removed (its folder is gone: retention, or it held a "
            "forgotten item).",
            nullable=False,
        ),
        Column("hold", HOLD, "While set on the published build, nights do not publish: who, why, until when."),
        Column(
            "built_at",
            TIMESTAMP,
            "When it was written, or a later night came to it again.",
            nullable=False,
            provenance=True,
        ),
        Column("published_at", TIMESTAMP, "When it was last published; null if never."),
    ),
    key=("build_id",),
    checks={
        "known_status": "status IN ('built', 'passed', 'failed', 'published', 'superseded', 'removed')",
        "checked_has_gates": "status IN ('built', 'removed') OR gates IS NOT NULL",
    },
)

DUPLICATE_ITEMS = Table(
    name="duplicate_items",
    comment="An item of a build that is nearly the same as another; chains of such pairs make a group.",
    columns=(
        Column("build_id", STRING, "The build.", nullable=False),
        Column("item_id", STRING, "The seller's identifier.", nullable=False),
        Column("duplicate_group", INT, "Number of the group within the build, from 1.", nullable=False),
        Column("nearest_score", FLOAT, "Cosine of the item and the one most like it.", nullable=False),
    ),
    key=("build_id", "item_id"),
    partitioned_by=("build_id",),
)

QUERY_NEIGHBOURS = Table(
    name="query_neighbours",
    comment="What a head query finds in a build: how near the best item is, and the tenth.",
    columns=(
        Column("build_id", STRING, "The build.", nullable=False),
        Column("query", STRING, "Normalised query.", nullable=False),
        Column("impressions", LONG, "How often the query was shown results in its window.", nullable=False),
        Column("item_id", STRING, "The best item.", nullable=False),
        Column("score", FLOAT, "Cosine of the query and the best item.", nullable=False),
        Column("score_at_10", FLOAT, "Cosine of the query and the tenth item; null where the build has fewer."),
        Column("is_covered", BOOLEAN, "Whether the score reached --min-query-score of the check.", nullable=False),
    ),
    key=("build_id", "query"),
    partitioned_by=("build_id",),
)
