"""Models put into a lake as a training would leave them."""

import datetime as dt
import json
from pathlib import Path

import torch

from jobs.core.lake import Lake
from models.training.checkpoint import load_model_folder, save_model_folder
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


def put_candidate(lake: Lake, spark, folder: Path) -> str:
    """Put a model that differs from the lake's only one, promoted a day after it, into the lake; returns its version.

    Args:
        lake: A lake with one model.
        spark: The session.
        folder: Where the model is made.
    """
    (before,) = lake.read(MODELS).collect()
    loaded = load_model_folder(lake.local_dir("models", before["model_version"]))
    with torch.no_grad():
        loaded.model.item_projection.weight.mul_(-1.5).add_(0.01)
    promoted_at = before["promoted_at"] + dt.timedelta(days=1)
    manifest = save_model_folder(folder, loaded.model, loaded.processor, trained_on=promoted_at.date(), card="")
    version = manifest["model_version"]
    lake.upload(folder, "models", version)
    later = before.asDict() | {"model_version": version, "promoted_at": promoted_at}
    lake.append(MODELS, spark.createDataFrame([later], MODELS.schema))
    return version
