"""What every epoch reads again, prepared once: photos as pixels, texts as tokens."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from models.make.processing_make import MakeProcessor


class PreparedInputs:
    """Decodes photos and tokenizes texts, and keeps what comes of it for the epochs to come while there is room.

    Args:
        max_bytes: of pixels and tokens kept; what is beyond it is prepared in every epoch.
    """

    def __init__(self, processor: MakeProcessor, *, max_bytes: int) -> None:
        self._processor, self._room = processor, max_bytes
        self._photos: dict[int, np.ndarray | None] = {}
        self._queries: dict[str, np.ndarray] = {}
        self._titles: dict[str, np.ndarray] = {}

    def photos(self, photos: Sequence[bytes], keys: Sequence[int], pool: ThreadPoolExecutor) -> list[np.ndarray | None]:
        """As `MakeProcessor.decode_photos`; `keys` tell different photos apart, 0 is no photo."""
        new = {key: photo for key, photo in zip(keys, photos, strict=True) if key and key not in self._photos}
        pixels = dict(zip(new, self._processor.decode_photos(list(new.values()), pool), strict=True))
        found = [None if key == 0 else pixels[key] if key in pixels else self._photos[key] for key in keys]
        self._keep(self._photos, pixels)
        return found

    def query_tokens(self, queries: Sequence[str]) -> list[np.ndarray]:
        """As `MakeProcessor.tokenize_queries`."""
        return self._tokens(self._queries, queries, self._processor.tokenize_queries)

    def title_tokens(self, titles: Sequence[str]) -> list[np.ndarray]:
        """As `MakeProcessor.tokenize_titles`."""
        return self._tokens(self._titles, titles, self._processor.tokenize_titles)

    def _tokens(
        self, kept: dict[str, np.ndarray], texts: Sequence[str], tokenize: Callable[[Sequence[str]], list[np.ndarray]]
    ) -> list[np.ndarray]:
        unknown = [text for text in dict.fromkeys(texts) if text not in kept]
        tokens = dict(zip(unknown, tokenize(unknown), strict=True))
        found = [tokens[text] if text in tokens else kept[text] for text in texts]
        self._keep(kept, tokens)
        return found

    def _keep(self, kept: dict[Hashable, np.ndarray | None], prepared: Mapping[Hashable, np.ndarray | None]) -> None:
        for key, array in prepared.items():
            size = 0 if array is None else array.nbytes
            if size <= self._room:
                kept[key] = array
                self._room -= size
