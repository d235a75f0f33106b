"""Train MAKE on a training set, with Petastorm feeding one or more workers.

Reads:  training_sets, models
Writes: models
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Self

import fsspec
import torch
from pydantic import Field, ValidationError, model_validator
from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from jobs.core.job import DatedOptions, JobError, JobRun, code_revision, main
from jobs.core.lake import Lake
from models.make.configuration_make import preset_config
from models.training.checkpoint import MANIFEST_FILE
from models.training.settings import TrainResult, TrainSettings
from models.training.trainer import train
from schemas import MODELS, TRAINING_SETS

_DEFAULTS = {name: field.default for name, field in TrainSettings.model_fields.items()}
_OF_THIS_JOB = {"training_set", "output", "date", "progress_file", "tensorboard_folder", "checkpoint_folder"}


class Options(DatedOptions):
    """Train MAKE on a training set, with Petastorm feeding one or more workers."""

    training_set_id: str | None = Field(None, description="The training set; default: the newest up to the date.")
    preset: str = Field(_DEFAULTS["preset"], description="Size of the model: tiny, small or base.")
    pretrained_text: str | None = Field(None, description="A BERT that queries and titles begin with: folder or name.")
    pretrained_image: str | None = Field(None, description="A pretrained photo backbone: timm name or checkpoint file.")
    epochs: int = Field(_DEFAULTS["epochs"], ge=1, description="Passes over the training split, at most.")
    max_minutes: float | None = Field(None, gt=0, description="Wall-clock minutes of training, at most.")
    batch_size: int = Field(_DEFAULTS["batch_size"], ge=2, description="Products a step and worker.")
    learning_rate: float = Field(_DEFAULTS["learning_rate"], gt=0, description="Peak learning rate.")
    seed: int = Field(_DEFAULTS["seed"], ge=0, description="Seed of every source of randomness.")
    train_settings: dict[str, Any] = Field(
        {}, description='Any other fields of TrainSettings, as JSON: {"objectives": {"image_text_weight": 0.5}}.'
    )
    workers: int = Field(
        1, ge=1, description="Training processes; each takes a task slot, and a GPU where there are any."
    )

    @model_validator(mode="after")
    def _refuse_what_cannot_be_trained(self) -> Self:
        taken = sorted(self.train_settings.keys() & (type(self).model_fields.keys() | _OF_THIS_JOB))
        if taken:
            raise ValueError(f"--train-settings: not {', '.join(taken)}: an option of its own, or what the job decides")
        try:
            self.settings_over("", self.date)
        except ValidationError as error:
            wrong = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
            raise ValueError("\n".join(f"--train-settings: {line}" for line in wrong)) from error
        preset_config(self.preset, **self.train_settings.get("overrides", {}))
        return self

    def settings_over(self, training_set: str, date: dt.date) -> TrainSettings:
        """What a training is told.

        Args:
            training_set: The set's folder.
            date: The set's logical date.
        """
        options = self.model_dump(include=TrainSettings.model_fields.keys() - {"date"})
        return TrainSettings(training_set=training_set, output="", date=date, **options, **self.train_settings)


def find_training_set(lake: Lake, training_set_id: str | None, date: dt.date) -> Row:
    """The named training set, or the newest one up to the date.

    Raises:
        JobError: There is none.
    """
    sets = lake.read(TRAINING_SETS)
    if training_set_id:
        sets = sets.where(F.col("training_set_id") == training_set_id)
    else:
        sets = sets.where(F.col("logical_date") <= F.lit(date))
    row = sets.orderBy(F.desc("logical_date"), F.desc("created_at")).first()
    if row is None:
        named = training_set_id or f"up to {date}"
        raise JobError(f"no training set {named}: run `training build-set` first")
    return row


def train_and_store(settings_json: str, models_uri: str, runs_uri: str, code_revision: str | None = None) -> str:
    """What each worker runs: train, and on rank 0 put the model folder and its curves into the lake.

    Args:
        settings_json: `TrainSettings` as JSON; its output folder is this machine's own.
        models_uri: The lake's folder of models, as fsspec names it.
        runs_uri: Likewise the folder of curves: `<model_version>.jsonl` is the progress file, and the folder
            `<model_version>` holds TensorBoard's event files.
        code_revision: Of this project, for the model card.

    Returns:
        `TrainResult` as JSON.
    """
    settings = TrainSettings.model_validate_json(settings_json)
    if code_revision:
        os.environ["MAKE_CODE_REVISION"] = code_revision
    scratch = Path(tempfile.mkdtemp(prefix="make-model-"))
    outputs = {"output": str(scratch / "model"), "tensorboard_folder": str(scratch / "tensorboard")}
    settings = settings.model_copy(update=outputs)
    result = train(settings)
    if int(os.environ.get("RANK", "0")) == 0:
        _store_model(Path(settings.output), f"{models_uri}/{result.model_version}")
        _store_curves(settings, f"{runs_uri}/{result.model_version}")
    shutil.rmtree(scratch)
    return result.model_dump_json()


def _store_model(folder: Path, uri: str) -> None:
    """Put the model folder to `uri` unless it is there; its manifest, which makes it complete, comes last."""
    fs, target = fsspec.core.url_to_fs(uri)
    if fs.exists(f"{target}/{MANIFEST_FILE}"):
        return
    fs.makedirs(target, exist_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST_FILE):
        fs.put_file(str(path), f"{target}/{path.name}")


def _store_curves(settings: TrainSettings, uri: str) -> None:
    """Put the progress file to `<uri>.jsonl` and TensorBoard's event files below `uri`, instead of earlier ones."""
    fs, target = fsspec.core.url_to_fs(uri)
    if fs.exists(target):
        fs.rm(target, recursive=True)
    fs.makedirs(target)
    for path in Path(settings.tensorboard_folder).iterdir():
        fs.put_file(str(path), f"{target}/{path.name}")
    fs.put_file(settings.progress_file, f"{target}.jsonl")


def _distributor(spark: SparkSession, workers: int) -> TorchDistributor:
    """One training process a task, on the GPUs that Spark schedules; on one machine, on the GPUs that it has."""
    if spark.conf.get("spark.task.resource.gpu.amount", None):
        return TorchDistributor(num_processes=workers, local_mode=False, use_gpu=True)
    on_one_machine = spark.sparkContext.master.startswith("local")
    if on_one_machine and torch.cuda.is_available():
        return TorchDistributor(num_processes=workers, local_mode=True, use_gpu=True)
    return TorchDistributor(num_processes=workers, local_mode=False, use_gpu=False)


def _share_done(progress_file: Path) -> float:
    """How far training is, 0..1, by the last step that the trainer told."""
    lines = progress_file.read_text().splitlines() if progress_file.exists() else []
    return max((json.loads(line).get("share_done", 0.0) for line in lines), default=0.0)


def recipe_of(settings: TrainSettings, workers: int) -> str:
    """All that decides what is learnt from a training set, as JSON: so many workers contrast as many batches as one."""
    recipe = settings.model_dump(mode="json", exclude={"training_set", "output", "date"})
    return json.dumps(recipe | ({"workers": workers} if workers > 1 else {}), separators=(",", ":"))


def run(job: JobRun, options: Options) -> None:
    """Train unless a model of this set and these settings exists; record it as a candidate."""
    lake, spark = job.lake, job.spark
    training_set = find_training_set(lake, options.training_set_id, options.date)
    progress_file = Path(tempfile.mkdtemp(prefix="make-training-")) / "progress.jsonl"
    settings = options.settings_over(lake.uri(training_set["uri"]), training_set["logical_date"])
    recipe = recipe_of(settings, options.workers)
    trained = lake.read(MODELS).where(
        (F.col("training_set_id") == training_set["training_set_id"]) & (F.col("training_settings") == recipe)
    )
    if not trained.isEmpty():
        job.note(f"{trained.first()['model_version']} was trained on this set with these settings already")
        job.unchanged()
        return
    run_key = hashlib.sha256(f"{training_set['training_set_id']} {recipe}".encode()).hexdigest()[:16]
    settings = settings.model_copy(
        update={
            "progress_file": str(progress_file),
            # A retried task, or the same command again, goes on from here.
            "checkpoint_folder": lake.uri("staging", "training", run_key),
        }
    )
    with job.stage("train"), job.progress("training", 1.0, lambda: _share_done(progress_file)):
        answer = _distributor(spark, options.workers).run(
            train_and_store,
            settings.model_dump_json(),
            lake.uri("models"),
            lake.uri("training_runs"),
            code_revision(),
        )
    result = TrainResult.model_validate_json(answer)
    for name, value in result.metrics.items():
        job.figure(name, value)
    model = {
        "model_version": result.model_version,
        "weights_sha256": result.weights_digest,
        "preprocessing_sha256": result.preprocessing_digest,
        "training_set_id": training_set["training_set_id"],
        "training_settings": recipe,
        "dimension": preset_config(settings.preset, **settings.overrides).embedding_dim,
        "metrics": {name: float(value) for name, value in result.metrics.items()},
        "stage": "candidate",
        "code_revision": code_revision(),
        "created_at": dt.datetime.now(dt.UTC),
        "promoted_at": None,
        "promotion_reason": None,
    }
    lake.merge(MODELS, spark.createDataFrame([model], MODELS.schema), insert_only=True)
    job.count(rows_in=training_set["train_rows"], rows_out=training_set["train_rows"])
    figures = result.metrics
    recall = figures.get("validation_recall_at_10")
    job.note(
        f"{result.model_version}: {figures['steps']:,.0f} steps, {figures['products_per_second']:,.0f} products/s, "
        f"{figures['data_wait_share']:.0%} of it waiting for data; recall@10 on held-out clicks "
        + ("not measured: none are held out" if recall is None else f"{recall:.3f}")
    )


if __name__ == "__main__":
    main(run, Options)
