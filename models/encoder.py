"""A saved model as a function from titles, photos and queries to vectors."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch

from models.make.modeling_make import ItemStates, MakeModel
from models.make.processing_make import MakeProcessor
from models.training.checkpoint import load_model_folder

# Rows of the first forward passes; halved for good whenever a GPU has no memory for so many.
ROWS_PER_FORWARD = 256

Part = TypeVar("Part")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedItems:
    """Products after the CPU's share of the work.

    Attributes:
        title_tokens: one int32 array (tokens, pieces) a product.
        pixels: uint8 (products, height, width, 3); zeros where there is no readable photo.
        has_image: (products,) bool.
        image_status: "ok", "missing" (no bytes) or "broken" (bytes that do not decode), a product.
    """

    title_tokens: list[np.ndarray]
    pixels: np.ndarray
    has_image: np.ndarray
    image_status: list[str]

    def __len__(self) -> int:
        return len(self.title_tokens)


@dataclass(frozen=True)
class ItemVectors:
    """Product vectors and what they are made of, all float32.

    Attributes:
        embedding: (products, dim), unit norm.
        title_weight, image_weight: (products,), Modal Adaptation's weights; 1 and 0 without a photo.
        photo_effect: (products,), 1 - cosine to the vector that the product has without its photo; 0 without one.
        image_status: as in PreparedItems.
    """

    embedding: np.ndarray
    title_weight: np.ndarray
    image_weight: np.ndarray
    photo_effect: np.ndarray
    image_status: list[str]


class Encoder:
    """Embeds products and queries with one model.

    A row's vector does not depend on the rows beside it (to float32 rounding).  `prepare_items` and `prepare_queries`
    are CPU work and may run in another thread while `embed_items` or `embed_prepared_queries` computes the batch
    before.  A GPU multiplies in 16 bits (`serving_precision`), a CPU in float32.

    Example:
        encoder = Encoder.from_folder("models/make-20261115-9f3a12cd")
        vectors = encoder.embed_items(encoder.prepare_items(["Red dress"], [photo_bytes]))
        scores = encoder.embed_queries(["summer dress"]) @ vectors.embedding.T
    """

    def __init__(
        self, model: MakeModel, processor: MakeProcessor, *, model_version: str, decode_threads: int | None = None
    ) -> None:
        self.model = model
        self.processor = processor
        self.model_version = model_version
        self.dim: int = model.config.embedding_dim
        self.image_size = processor.image_size  # (height, width) in pixels
        self.rows_per_forward = ROWS_PER_FORWARD
        self._precision = serving_precision(model.device)
        decode_threads = decode_threads or min(8, os.cpu_count() or 1)
        self._decoders = ThreadPoolExecutor(max_workers=decode_threads, thread_name_prefix="decode")

    @classmethod
    def from_folder(
        cls, folder: str | Path, device: str | torch.device | None = None, *, decode_threads: int | None = None
    ) -> Self:
        """Open a model folder, its digests checked.

        Args:
            folder: what `save_model_folder` wrote.
            device: where the model computes; None: on the GPU where there is one.
            decode_threads: photos decoded at a time; None: as many as there are cores, up to 8.

        Raises:
            FileNotFoundError, ValueError: no model folder, or one whose files changed (see `load_model_folder`).
        """
        loaded = load_model_folder(folder)
        model = loaded.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
        return cls(model, loaded.processor, model_version=loaded.model_version, decode_threads=decode_threads)

    def prepare_items(self, titles: Sequence[str], photos: Sequence[bytes | None]) -> PreparedItems:
        """Tokenize titles and decode photos in threads; `None` and `b""` both mean no photo."""
        if len(titles) != len(photos):
            raise ValueError(
                f"expected one photo (or None) a title, got {len(titles)} titles and {len(photos)} photos."
            )
        decoded = self.processor.decode_photos(photos, self._decoders)
        pixels = np.zeros((len(titles), *self.image_size, 3), dtype=np.uint8)
        for row, photo in enumerate(decoded):
            if photo is not None:
                pixels[row] = photo
        status = [
            "ok" if photo is not None else "broken" if content else "missing"
            for photo, content in zip(decoded, photos, strict=True)
        ]
        return PreparedItems(
            title_tokens=self.processor.tokenize_titles(titles),
            pixels=pixels,
            has_image=np.array([photo is not None for photo in decoded], dtype=bool),
            image_status=status,
        )

    def embed_items(self, items: PreparedItems) -> ItemVectors:
        """Vectors of prepared products, in their order."""
        parts = self._in_parts(len(items), lambda rows: self._embed_items(items, rows))
        embeddings, weights, effects = [np.zeros((0, self.dim))], [np.zeros((0, 2))], [np.zeros(0)]
        for embedding, weight, effect in parts:
            embeddings.append(embedding)
            weights.append(weight)
            effects.append(effect)
        weight = np.concatenate(weights).astype(np.float32)
        return ItemVectors(
            embedding=np.concatenate(embeddings).astype(np.float32),
            title_weight=weight[:, 0],
            image_weight=weight[:, 1],
            photo_effect=np.concatenate(effects).astype(np.float32),
            image_status=items.image_status,
        )

    def _embed_items(self, items: PreparedItems, rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        states = self._item_states(items, rows)
        full = self.model.fuse(states)
        cosine = (full.embedding * self.model.without_photo(states, full)).sum(dim=-1)
        effect = torch.where(states.has_image, 1.0 - cosine, 0.0)
        return full.embedding.cpu().numpy(), full.weights.float().cpu().numpy(), effect.cpu().numpy()

    def _item_states(self, items: PreparedItems, rows: slice) -> ItemStates:
        device = self.model.device
        pixels = torch.from_numpy(items.pixels[rows]).to(device)
        return self.model.item_states(
            self.processor.pad(items.title_tokens[rows]).to(device),
            self.processor.normalize_pixels(pixels),
            torch.from_numpy(items.has_image[rows]).to(device),
        )

    def prepare_queries(self, queries: Sequence[str]) -> list[np.ndarray]:
        """Tokenize queries: one int32 array (tokens, pieces) a query."""
        return self.processor.tokenize_queries(queries)

    def embed_prepared_queries(self, tokens: Sequence[np.ndarray]) -> np.ndarray:
        """(queries, dim) float32, unit norm."""
        vectors = self._in_parts(len(tokens), lambda rows: self._embed_queries(tokens[rows]))
        return np.concatenate([np.zeros((0, self.dim)), *vectors]).astype(np.float32)

    def _embed_queries(self, tokens: Sequence[np.ndarray]) -> np.ndarray:
        ids = self.processor.pad(tokens).to(self.model.device)
        return self.model.encode_queries(ids).cpu().numpy()

    def embed_queries(self, queries: Sequence[str]) -> np.ndarray:
        """(queries, dim) float32, unit norm, of queries as people type them."""
        return self.embed_prepared_queries(self.prepare_queries(queries))

    def _in_parts(self, rows: int, embed: Callable[[slice], Part]) -> list[Part]:
        """`embed` over all rows, as many at once as memory holds."""
        parts, start = [], 0
        while start < rows:
            try:
                with torch.inference_mode(), self._in_precision():
                    parts.append(embed(slice(start, start + self.rows_per_forward)))
            except torch.OutOfMemoryError:
                if self.rows_per_forward == 1:
                    raise
                self.rows_per_forward //= 2
                _log.warning("out of memory: from now on %d rows a forward pass", self.rows_per_forward)
            else:
                start += self.rows_per_forward
        return parts

    def _in_precision(self) -> torch.autocast:
        enabled = self._precision != torch.float32
        return torch.autocast(self.model.device.type, self._precision if enabled else None, enabled=enabled)


def serving_precision(device: torch.device) -> torch.dtype:
    """What the encoders multiply in: float32 on a CPU, so that any two machines agree; 16 bits on a GPU.

    bfloat16 where the GPU multiplies it natively, else float16.
    """
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
