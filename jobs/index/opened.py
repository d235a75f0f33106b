"""Builds that a Python worker has open, with the model that encodes their queries, kept from task to task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa

from jobs.index.filters import ItemFilter
from jobs.index.searcher import Searcher

if TYPE_CHECKING:
    from models.encoder import Encoder

# What answers show of an item.
SHOWN_COLUMNS = ("title", "category", "price", "title_weight", "image_weight", "image_status")
# Conditions whose rows are kept: those that a dashboard asks with again and again.
_FILTERS_KEPT = 16


@dataclass(frozen=True, eq=False)
class OpenedBuild:
    """A build, and what is looked up in it again and again.

    Args:
        searcher: The build.
        models: Folder of all models, a path or URL.
        threads: Of the processor, for the model.
    """

    searcher: Searcher
    models: str
    threads: int

    @classmethod
    def open(cls, folder: str, *, models: str, threads: int) -> Self:
        """The build of a folder, opened once a process.

        Raises:
            BuildIntegrityError: A file is missing or differs from its digest.
        """
        return _opened(cls, folder, models, threads)

    @cached_property
    def item_ids(self) -> pa.Array:
        """(rows,) item_id of every row."""
        return self.searcher.items(["item_id"])["item_id"].combine_chunks()

    @cached_property
    def shown(self) -> pa.Table:
        """`SHOWN_COLUMNS` of every row."""
        return self.searcher.items(SHOWN_COLUMNS).combine_chunks()

    @cached_property
    def encoder(self) -> Encoder:
        """The model that made the build."""
        from jobs.embedding.inference import open_encoder  # costs seconds, and only who encodes needs it

        return open_encoder(f"{self.models}/{self.searcher.manifest.model_version}", threads=self.threads)

    @cached_property
    def rows_allowed(self) -> Callable[[ItemFilter], np.ndarray | None]:
        """`ItemFilter.rows_of` of this build, the last ones kept."""
        return lru_cache(_FILTERS_KEPT)(lambda only: only.rows_of(self.searcher))


@lru_cache(maxsize=2)  # the published build, and the one before while queries that began with it are still answered
def _opened(kind: type[OpenedBuild], folder: str, models: str, threads: int) -> OpenedBuild:
    return kind(Searcher.open(folder), models, threads)
