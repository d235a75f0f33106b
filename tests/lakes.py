"""Models put into a lake as a training would leave them."""

import datetime as dt
import json
from pathlib import Path

from jobs.core.lake import Lake
from schemas import MODELS


def put_promoted_model(lake: Lake, spark, folder: Path) -> str:
    """Put the model of a complete folder into the lake and promote it; returns its version."""
    manifest = json.loads((folder / "manifest.json").read_text())
    version = manifest["model_version"]
    lake.upload(folder, "models", version)
    now = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    row = {
        "model_version": version,
        "weights_sha256": manifest["weights_digest"],
        "preprocessing_sha256": manifest["preprocessing_digest"],
        "training_set_id": "none",
        "training_settings": "{}",
        "dimension": 32,
        "metrics": {"recall_at_10": 0.5, "judged_queries": 2.0},
        "stage": "promoted",
        "code_revision": None,
        "created_at": now,
        "promoted_at": now,
        "promotion_reason": None,
    }
    lake.append(MODELS, spark.createDataFrame([row], MODELS.schema))
    return version
