"""Train MAKE on a training set; runs as it is in one process, or in each process of torchrun or TorchDistributor."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator
from typing import Any

import torch
from upath import UPath

from models.encoder import Encoder
from models.make.objectives import TrainingBatch
from models.training.card import model_card
from models.training.checkpoint import save_model_folder
from models.training.computation import checkpoint_activations, compile_encoders, keep_freed_memory
from models.training.data import TrainingData
from models.training.distributed import Process, joined_process
from models.training.loader import BatchLoader
from models.training.optimization import WeightAverage
from models.training.preparation import begin_model, prepare_text
from models.training.progress import ProgressLog
from models.training.reader import AddedQueries
from models.training.resume import Checkpoint, CheckpointFolder, under_prefix, with_prefix
from models.training.settings import NOT_OF_THE_RUN, TrainResult, TrainSettings
from models.training.step import TrainingStep
from models.training.validation import Validation

__all__ = ["TrainResult", "TrainSettings", "train"]

SELECTED_BY = "recall_at_10"

# What a checkpoint holds of the trainer beside tensors.
_COUNTERS = (
    "steps",
    "epoch",
    "steps_in_epoch",
    "validated_at",
    "validated_step",
    "waited",
    "validated",
    "products",
    "queries",
    "rows_read",
    "rows_expected",
    "best_score",
    "without_gain",
)


def train(settings: TrainSettings) -> TrainResult:
    """Train a model and write its folder.

    Each process calls this with the same settings; RANK, WORLD_SIZE and LOCAL_RANK of the environment say which one it
    is.  Rank 0 validates and writes the folder.  A run that was killed goes on from its newest checkpoint, where there
    is a folder for them: on the CPU and with a schedule by steps, to the very same losses.

    Raises:
        FileNotFoundError: the training set lacks a file.
        ValueError: settings that do not fit the training set, or another run's checkpoint.
        RuntimeError: an epoch delivered other rows than the Parquet footers count, or the loss is not finite.
    """
    with joined_process() as process:
        threads = settings.threads or max(1, (os.cpu_count() or 1) // process.local_world_size)
        torch.set_num_threads(threads)
        keep_freed_memory()
        torch.manual_seed(settings.seed)  # the same first weights on every rank
        return Trainer(settings, process).run()


class Trainer:
    """One process's share of a training run."""

    def __init__(self, settings: TrainSettings, process: Process) -> None:
        self.settings, self.process = settings, process
        training_set = UPath(settings.training_set)
        self.checkpoints = self.resumed_from = None
        if settings.checkpoint_folder:
            what_decides = settings.model_dump(mode="json", exclude=NOT_OF_THE_RUN)
            self.checkpoints = CheckpointFolder(
                settings.checkpoint_folder, {**what_decides, "world_size": process.world_size}
            )
            self.resumed_from = self.checkpoints.load()
        saved = None if self.resumed_from is None else self.resumed_from.state["processor"]
        self.config, self.processor = prepare_text(settings, process, saved=saved)
        self.model = begin_model(self.config, settings, resumes=saved is not None).to(process.device)
        if settings.checkpoint_activations:
            checkpoint_activations(self.model)
        # Rank 0 alone validates and saves, so it alone averages.
        averages = settings.ema_decay > 0 and process.is_first
        self.average = WeightAverage(self.model, settings.ema_decay) if averages else None
        self.candidate = self.average.model if averages else self.model  # what is validated and saved
        if settings.compile:
            compile_encoders(self.model)
        self.step = TrainingStep(settings, process, self.model, self.processor)
        self.data = TrainingData(
            training_set / "train",
            self.processor,
            # What weighs nothing is not read at all, so that it is nobody's negative either.
            added=AddedQueries(
                pseudo=settings.pseudo_queries if settings.objectives.pseudo_query_weight else 0,
                typos=settings.pseudo_query_typos,
                similar=settings.objectives.neighbor_positive_weight > 0,
            ),
            batch_size=settings.batch_size,
            shuffle_rows=settings.shuffle_rows,
            group_rows=settings.group_rows,
            seed=settings.seed,
            rank=process.rank,
            world_size=process.world_size,
            decode_threads=settings.num_workers,
            cache_bytes=settings.cache_mb << 20,
        )
        self.encoder = Encoder(self.candidate, self.processor, model_version="in training")
        self.validation = None
        if process.is_first:
            self.validation = Validation(training_set, self.encoder, max_items=settings.validation_items)
            if settings.patience is not None and not self.validation.queries:
                raise ValueError(f"{training_set} holds nothing out: train without patience, which waits for it.")
        told = (settings.progress_file, settings.tensorboard_folder) if process.is_first else (None, None)
        self.progress_log = ProgressLog(*told)
        self.checkpointed_at = 0.0  # monotonic seconds
        self.total_steps = settings.epochs * self.data.steps_per_epoch
        if settings.max_steps is not None:
            self.total_steps = min(self.total_steps, settings.max_steps)
        self.steps = self.epoch = self.steps_in_epoch = 0
        self.validated_at = 0.0  # progress
        self.validated_step = -1
        self.waited = self.validated = 0.0  # seconds
        self.products = self.queries = self.rows_read = self.rows_expected = 0
        self.best_score = 0.0
        self.without_gain = 0  # validations since the best one
        self.kept: tuple[dict[str, Any], dict[str, float]] | None = None

    def run(self) -> TrainResult:
        """All epochs, or as many as fit the time; then the best checkpoint becomes the model folder."""
        self.started = self.checkpointed_at = time.monotonic()
        if self.resumed_from is not None:
            self._resume(self.resumed_from)
        self.model.train()
        self.loader = BatchLoader(self.data, first=self.epoch, skip=self.steps_in_epoch, epochs=self.settings.epochs)
        try:
            while self.epoch < self.settings.epochs and self._train_epoch():
                self._check_rows()
                self._validate_when_due()
                if self._is_patience_spent():
                    break
                self.epoch, self.steps_in_epoch = self.epoch + 1, 0
        finally:
            self.loader.close()
        self._validate()
        return self._finish()

    def _train_epoch(self) -> bool:
        """Train the present epoch, or what is left of it; whether it came to its end before the time was up."""
        for batch in self._timed(self.loader.epoch()):
            progress = self._progress()
            if progress >= 1.0:
                return False
            self.train_on(batch, progress)
            self.steps_in_epoch += 1
            self._save_when_due()
        return True

    def _save_when_due(self) -> None:
        """Write a checkpoint on rank 0, whose weights and optimiser are every rank's."""
        minutes = (time.monotonic() - self.checkpointed_at) / 60
        if self.checkpoints is None or not self.process.is_first or minutes < self.settings.checkpoint_minutes:
            return
        tensors = with_prefix(self.model.state_dict(), "model.") | with_prefix(self.step.tensors(), "step.")
        if self.average is not None:
            tensors |= with_prefix(self.average.model.state_dict(), "average.")
        kept_metrics = None
        if self.kept is not None:
            weights, kept_metrics = self.kept
            tensors |= with_prefix(weights, "kept.")
        counters = {name: getattr(self, name) for name in _COUNTERS}
        state = {
            **counters,
            "seconds": time.monotonic() - self.started,
            "kept_metrics": kept_metrics,
            "processor": self.processor.to_files(),
            "progress": self.progress_log.lines,
        }
        self.checkpoints.save(self.steps, Checkpoint(tensors, state))
        self.checkpointed_at = time.monotonic()

    def _resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(under_prefix(checkpoint.tensors, "model."))
        self.step.restore(under_prefix(checkpoint.tensors, "step."))
        if self.average is not None:
            self.average.model.load_state_dict(under_prefix(checkpoint.tensors, "average."))
        for name in _COUNTERS:
            setattr(self, name, checkpoint.state[name])
        self.started -= checkpoint.state["seconds"]
        if checkpoint.state["kept_metrics"] is not None:
            self.kept = (under_prefix(checkpoint.tensors, "kept."), checkpoint.state["kept_metrics"])
        self.progress_log.restore(checkpoint.state["progress"])
        self.progress_log.write("resumed", **self._speed())

    def _progress(self) -> float:
        """Share of training that is done, by steps or by time, whichever is further; rank 0's clock counts."""
        by_steps = self.steps / self.total_steps
        if self.settings.max_minutes is None:
            return by_steps
        by_time = (time.monotonic() - self.started) / (60 * self.settings.max_minutes)
        return max(by_steps, self.process.from_first(by_time))

    def train_on(self, batch: TrainingBatch, progress: float) -> None:
        """Make a step; `progress` is the share of training that is done before it."""
        loss, parts = self.step(batch, number=self.steps, progress=progress)
        self.steps += 1
        if self.average is not None:
            self.average.update(self.model, self.steps)
        self.products += len(batch)
        self.queries += len(batch.item_of)
        if self.steps % self.settings.progress_every == 0:
            figures = {"share_done": progress, "seconds_left": self._seconds_left(progress)}
            self.progress_log.write("step", **figures, **self._speed(), **_floats({"loss": loss, **parts}))

    def _timed(self, batches: Iterator[TrainingBatch]) -> Iterator[TrainingBatch]:
        """The batches, with the time waited for them in `waited`."""
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def _speed(self) -> dict[str, float]:
        seconds = max(1e-9, time.monotonic() - self.started - self.validated)
        return {
            "steps": self.steps,
            "total_steps": self.total_steps,
            "seconds": seconds,
            "products_per_second": self.products * self.process.world_size / seconds,
            "queries_per_second": self.queries * self.process.world_size / seconds,
            "data_wait_share": self.waited / seconds,
            "learning_rate": self.step.learning_rate,
            "temperature": self.model.temperature.item(),
        }

    def _seconds_left(self, progress: float) -> float:
        """What the rest takes at the pace so far, validations included; `progress` is that before this step."""
        done = max(progress, self.steps / self.total_steps)
        return (time.monotonic() - self.started) * (1.0 - done) / done

    def _check_rows(self) -> None:
        """Compare what all ranks read in this epoch with the footers: Petastorm has lost row groups before."""
        read = int(self.process.total(self.loader.rows_read))
        self.rows_read += read
        self.rows_expected += self.data.size.rows
        if read != self.data.size.rows:
            raise RuntimeError(
                f"an epoch delivered {read:,} rows, the Parquet footers count {self.data.size.rows:,}: "
                "check the petastorm version (0.12.1 is known to lose none)."
            )

    def _validate_when_due(self) -> None:
        progress = self.process.from_first(self._progress())
        if progress - self.validated_at >= 1.0 / self.settings.validations:
            self.validated_at = progress
            self._validate()

    def _is_patience_spent(self) -> bool:
        """Whether the last so many validations, by rank 0's count, brought no better score."""
        patience = self.settings.patience
        return patience is not None and self.process.from_first(self.without_gain) >= patience

    def _validate(self) -> None:
        """Measure the held-out clicks on rank 0, and keep the weights unless earlier ones were better.

        Better by more than the standard error, that is: the slice is small, and an earlier checkpoint has yet to see
        the low rates, and the batches with nothing withheld, of the end.
        """
        if self.validation is None or self.validated_step == self.steps:
            return
        began = time.monotonic()
        self.candidate.eval()
        metrics = self.validation.measure(self.encoder) if self.validation.queries else {}
        self.model.train()
        self.validated += time.monotonic() - began
        self.validated_step = self.steps
        score, error = metrics.get(SELECTED_BY, 0.0), metrics.get(f"{SELECTED_BY}_error", 0.0)
        self.without_gain = 0 if score > self.best_score else self.without_gain + 1
        self.best_score = max(score, self.best_score)
        if score >= self.best_score - error:
            self.kept = (copy.deepcopy(self.candidate.state_dict()), {**metrics, "best_step": self.steps})
        self.progress_log.write("validation", **self._speed(), **metrics)

    def _finish(self) -> TrainResult:
        """Write the model folder on rank 0 and tell every rank its version."""
        result = None
        if self.process.is_first:
            weights, validation = self.kept
            self.candidate.load_state_dict(weights)
            metrics = {
                **self._speed(),
                **{f"validation_{name}": value for name, value in validation.items()},
                "validation_seconds": self.validated,
                "rows_read": self.rows_read,
                "rows_expected": self.rows_expected,
            }
            saved = save_model_folder(
                self.settings.output,
                self.candidate.eval(),
                self.processor,
                trained_on=self.settings.date,
                card=model_card(
                    self.config,
                    self.settings,
                    metrics,
                    train_rows=self.data.size.rows,
                    code_revision=os.environ.get("MAKE_CODE_REVISION"),
                ),
            )
            result = TrainResult(**saved, metrics=metrics)
            if self.checkpoints is not None:
                self.checkpoints.remove()
            self.progress_log.write("finished", model_version=result.model_version, **metrics)
            self.progress_log.close()
        return self.process.from_first(result)


def _floats(tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: tensor.item() for name, tensor in tensors.items()}
