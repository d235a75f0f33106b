"""The table of index builds: what was built, how it was judged, and which one is published."""

from pyspark.sql.types import ArrayType, BooleanType, StructField, StructType

from schemas.table import DATE, DOUBLE, INT, LONG, STRING, TIMESTAMP, VERSIONS, Column, Table

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
