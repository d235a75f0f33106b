"""Tables of training: the sets that models learn from, and the models."""

from schemas.table import DATE, FIGURES, INT, LONG, STRING, TIMESTAMP, VERSIONS, Column, Table

TRAINING_SETS = Table(
    name="training_sets",
    comment="One training set: Parquet with constant row groups, cut from stated versions of the lake's tables.",
    columns=(
        Column("training_set_id", STRING, "Digest of the content and the settings that cut it.", nullable=False),
        Column("logical_date", DATE, "Last date of the log's window.", nullable=False),
        Column("uri", STRING, "Folder below the lake's root.", nullable=False),
        Column("train_rows", LONG, "Rows of the train split.", nullable=False),
        Column("validation_query_rows", LONG, "Rows that hold out query groups.", nullable=False),
        Column("validation_item_rows", LONG, "Rows that hold out combinations and products.", nullable=False),
        Column("row_groups", LONG, "Row groups of the train split.", nullable=False),
        Column("row_group_size", INT, "Rows of every row group but the last.", nullable=False),
        Column("delta_versions", VERSIONS, "Version of every table read.", nullable=False, provenance=True),
        Column("created_at", TIMESTAMP, "When it was written.", nullable=False, provenance=True),
    ),
    key=("training_set_id",),
    checks={"has_rows": "train_rows > 0"},
)

MODELS = Table(
    name="models",
    comment="One trained model; the version names weights and preprocessing together.",
    columns=(
        Column("model_version", STRING, "make-<date>-<digest>.", nullable=False),
        Column("weights_sha256", STRING, "Digest of model.safetensors.", nullable=False),
        Column(
            "preprocessing_sha256",
            STRING,
            "Digest of the folder's files but the weights.",
            nullable=False,
        ),
        Column("training_set_id", STRING, "What it learnt from.", nullable=False),
        Column("training_settings", STRING, "The settings that it was trained with, as JSON.", nullable=False),
        Column("dimension", INT, "Length of a served vector.", nullable=False),
        Column("metrics", FIGURES, "Figures of training and evaluation by name.", nullable=False),
        Column("stage", STRING, "candidate, promoted or retired.", nullable=False),
        Column("code_revision", STRING, "Revision of this project that trained it."),
        Column("created_at", TIMESTAMP, "When training ended.", nullable=False),
        Column("promoted_at", TIMESTAMP, "When it was promoted; null before."),
    ),
    key=("model_version",),
    checks={
        "known_stage": "stage IN ('candidate', 'promoted', 'retired')",
        "dimension_positive": "dimension > 0",
        "promoted_has_a_time": "stage <> 'promoted' OR promoted_at IS NOT NULL",
    },
)
