"""What the lake holds: every table, declared once."""

from schemas.catalog import FORGOTTEN_ITEMS, ITEM_IMAGES, ITEMS
from schemas.embedding import EMBEDDING_FAILURES, ITEM_EMBEDDINGS, QUERY_EMBEDDINGS
from schemas.index import INDEX_BUILDS
from schemas.operations import JOB_RUNS
from schemas.query_log import QUERY_EVENTS, QUERY_ITEM_PAIRS, REJECTED_ROWS, SIMILAR_QUERIES
from schemas.training import JUDGED_RESULTS, MODELS, PHOTO_WEIGHTS, TRAINING_SETS

ALL_TABLES = (
    ITEMS,
    ITEM_IMAGES,
    FORGOTTEN_ITEMS,
    QUERY_EVENTS,
    REJECTED_ROWS,
    QUERY_ITEM_PAIRS,
    SIMILAR_QUERIES,
    TRAINING_SETS,
    MODELS,
    JUDGED_RESULTS,
    PHOTO_WEIGHTS,
    ITEM_EMBEDDINGS,
    EMBEDDING_FAILURES,
    QUERY_EMBEDDINGS,
    INDEX_BUILDS,
    JOB_RUNS,
)
