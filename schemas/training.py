"""Tables of training: the sets that models learn from, the models, and what they were measured to do."""

from schemas.table import DATE, DOUBLE, FIGURES, FLOAT, INT, LONG, STRING, STRINGS, TIMESTAMP, VERSIONS, Column, Table

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
        Column("promotion_reason", STRING, "Why, in the words of whoever promoted it; a refused model needs a reason."),
    ),
    key=("model_version",),
    checks={
        "known_stage": "stage IN ('candidate', 'promoted', 'retired')",
        "dimension_positive": "dimension > 0",
        "promoted_has_a_time": "stage <> 'promoted' OR promoted_at IS NOT NULL",
    },
)

JUDGED_RESULTS = Table(
    name="judged_results",
    comment="What a model answered to one judged query, measured for one slice that the query belongs to.",
    columns=(
        Column("model_version", STRING, "The model.", nullable=False),
        Column("judged_set", STRING, "Digest of the judged queries' ids and texts.", nullable=False),
        Column("logical_date", DATE, "The date that the measuring run was for.", nullable=False),
        Column("slice", STRING, "all, typos, wording=colloquial, items never shown, ...", nullable=False),
        Column("query_id", STRING, "The judged query.", nullable=False),
        Column("query", STRING, "Its text as it was asked; in the slice typos with the typo.", nullable=False),
        Column("recall_at_1", DOUBLE, "Hits in the first result, 0 or 1.", nullable=False),
        Column("recall_at_10", DOUBLE, "Hits in the first ten, by as many as there can be, 0..1.", nullable=False),
        Column("recall_at_100", DOUBLE, "The same of the first hundred.", nullable=False),
        Column("ndcg_at_10", DOUBLE, "Discounted gain of the first ten, by that of an ideal ranking.", nullable=False),
        Column("mrr", DOUBLE, "1 / rank of the first hit among the first hundred; 0 without one.", nullable=False),
        Column("relevant", STRINGS, "item_ids that count in the slice, in order.", nullable=False),
        Column("found", STRINGS, "item_ids of the first ten results, best first.", nullable=False),
        Column("measured_at", TIMESTAMP, "When it was measured.", nullable=False, provenance=True),
    ),
    key=("model_version", "judged_set", "logical_date", "slice", "query_id"),
)

PHOTO_WEIGHTS = Table(
    name="photo_weights",
    comment="How a model weighs title and photo in a sample of the active items; written by training evaluate.",
    columns=(
        Column("model_version", STRING, "The model.", nullable=False),
        Column("item_id", STRING, "The seller's identifier.", nullable=False),
        Column("image_weight", FLOAT, "Modal Adaptation's weight for the photo, 0..1; 0 without one.", nullable=False),
        Column("photo_effect", FLOAT, "1 - cosine to the vector without the photo, 0..2.", nullable=False),
        Column("image_status", STRING, "ok, missing or broken.", nullable=False),
    ),
    key=("model_version", "item_id"),
    checks={"known_image_status": "image_status IN ('ok', 'missing', 'broken')"},
)
