"""One step of training: what it withholds from a batch, the gradient of the loss, the change of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.make.modeling_make import MakeModel, MakeOutput
from models.make.objectives import MemoryBank, TrainingBatch, make_loss, mask_texts, pair_drawer
from models.make.processing_make import MakeProcessor
from models.training.augmentation import augment
from models.training.distributed import Process, multiplies_bfloat16
from models.training.micro_batches import EncoderInputs, cached_backward, micro_batches
from models.training.optimization import learning_rate_share, make_optimizer, set_learning_rate
from models.training.resume import optimizer_tensors, restore_optimizer, under_prefix, with_prefix
from models.training.settings import TrainSettings


class TrainingStep:
    """Trains a model on one batch after the other.

    All that is random in a step is drawn from (seed, number of the step, rank), so that it does not depend on what this
    process ran before.

    Args:
        model: is changed in place; with several processes every one of them makes each step.
    """

    def __init__(self, settings: TrainSettings, process: Process, model: MakeModel, processor: MakeProcessor) -> None:
        self._settings, self._process, self._model, self._processor = settings, process, model, processor
        self._parallel_model = process.wrap(model)
        self._optimizer = make_optimizer(model, settings)
        self._bank = MemoryBank(settings.objectives.bank_items) if settings.objectives.bank_items else None
        self._use_bfloat16 = settings.precision == "bfloat16" or (
            settings.precision == "auto" and multiplies_bfloat16(process.device)
        )

    @property
    def learning_rate(self) -> float:
        """The highest that a group of weights has."""
        return max(group["lr"] for group in self._optimizer.param_groups)

    def __call__(self, batch: TrainingBatch, *, number: int, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Train on a batch.

        Args:
            number: of the step, from 0.
            progress: share of training that is done, 0..1.

        Returns:
            The loss, and its parts.

        Raises:
            RuntimeError: the gradient is not finite.
        """
        settings = self._settings
        seed = int(np.random.SeedSequence([settings.seed, number, self._process.rank]).generate_state(1)[0])
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        batch = self._varied(batch, progress, generator).to(self._process.device)
        share = learning_rate_share(progress, warmup=settings.warmup)
        set_learning_rate(self._optimizer, settings.learning_rate * share)
        self._optimizer.zero_grad(set_to_none=True)
        loss, parts = self._backward(batch, generator, seed)
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), settings.clip_norm)
        if not torch.isfinite(norm):
            raise RuntimeError(
                f"step {number}: the gradient is not finite (loss {loss.item():.4g}): "
                "lower learning_rate, or train with precision=float32."
            )
        self._optimizer.step()
        self._model.limit_temperature()
        return loss, parts

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds beside the weights."""
        tensors = with_prefix(optimizer_tensors(self._optimizer), "optimizer.")
        return tensors if self._bank is None else tensors | with_prefix(self._bank.tensors(), "bank.")

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        restore_optimizer(self._optimizer, under_prefix(tensors, "optimizer."))
        if self._bank is not None:
            self._bank.restore(under_prefix(tensors, "bank."), self._process.device)

    def _varied(self, batch: TrainingBatch, progress: float, generator: torch.Generator) -> TrainingBatch:
        """Hide tokens for masked language modelling, which has texts of its own, and augment the products."""
        settings = self._settings
        if settings.objectives.masked_language_weight:
            masked = mask_texts(batch, self._processor, share=settings.objectives.masked_share, generator=generator)
            batch = replace(batch, masked=masked)
        return augment(batch, settings, progress=progress, padding_id=self._processor.padding_id, generator=generator)

    def _backward(
        self, batch: TrainingBatch, generator: torch.Generator, seed: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the gradient; the loss, and the loss's parts."""
        objectives, config = self._settings.objectives, self._model.config

        def loss_of(output: MakeOutput) -> tuple[Tensor, dict[str, Tensor]]:
            return make_loss(
                output,
                batch,
                settings=objectives,
                margin=config.margin,
                served_dim=config.embedding_dim,
                bank=self._bank,
            )

        inputs = micro_batches(batch, self._settings.micro_batch_size or len(batch))
        if len(inputs) > 1:
            return cached_backward(
                inputs,
                forward=self._forward,
                loss_of=loss_of,
                seed=seed,
                unsynchronised=lambda: self._process.unsynchronised(self._parallel_model),
            )
        draw_pairs = pair_drawer(batch, objectives, generator=generator)
        loss, parts = loss_of(self._forward(inputs[0], masked=batch.masked, draw_pairs=draw_pairs))
        loss.backward()
        return loss, parts

    def _forward(self, inputs: EncoderInputs, **of_heads: Any) -> MakeOutput:
        with torch.autocast(self._process.device.type, torch.bfloat16, enabled=self._use_bfloat16):
            return self._parallel_model(
                query_ids=inputs.query_ids,
                title_ids=inputs.title_ids,
                pixel_values=self._processor.normalize_pixels(inputs.pixels),
                has_image=inputs.has_image,
                **of_heads,
            )
