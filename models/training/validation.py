"""How well a model in training answers clicks that it never saw: what selects the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from models.encoder import Encoder, PreparedItems
from models.retrieval_metrics import ndcg_at_k, recall_at_k

ITEMS_PREPARED_AT_ONCE = 1024
TOP = 100
# Queries that nothing trains on, and products that no click trains on.
SPLITS = ("validation_queries", "validation_items")


class Validation:
    """The held-out queries and products, searched in the training set's item pool.

    A query's relevant items are those of the splits.  What else its log clicked was seen in training: it is taken out
    of the ranking, so that it is neither a hit nor in the way of one.

    Args:
        training_set: the folder; when its validation splits hold no rows, there is nothing to measure.
        encoder: prepares the items, once.
        max_items: items searched: the relevant ones, however many, and the pool's first others up to this number.
    """

    def __init__(self, training_set: Path | UPath, encoder: Encoder, *, max_items: int) -> None:
        relevant: dict[str, set[int]] = {}
        seen: dict[str, set[int]] = {}
        for path in sorted(path for split in SPLITS for path in (training_set / split).glob("*.parquet")):
            with path.open("rb") as file:
                rows = pq.read_table(file, columns=["query", "item_key", "clicked_items"]).to_pylist()
            for row in rows:
                relevant.setdefault(row["query"], set()).add(row["item_key"])
                seen.setdefault(row["query"], set()).update(row["clicked_items"])
        self.queries = list(relevant)
        self._relevant = [relevant[query] for query in self.queries]
        self._seen = [seen[query] - relevant[query] for query in self.queries]
        wanted = set().union(*self._relevant)
        self._item_keys, self._items = _prepare_pool(
            training_set / "items.parquet", encoder, wanted=wanted, others=max(0, max_items - len(wanted))
        )

    def measure(self, encoder: Encoder) -> dict[str, float]:
        """recall@10 with its standard error, recall@100, nDCG@10, and the photo's mean weight where there is one."""
        vectors = [encoder.embed_items(items) for items in self._items]
        embeddings = np.concatenate([part.embedding for part in vectors])
        photo_weights = np.concatenate([part.image_weight for part in vectors])
        place_of = {key: place for place, key in enumerate(self._item_keys.tolist())}
        ranked = []
        for query, seen in zip(encoder.embed_queries(self.queries), self._seen, strict=True):
            scores = embeddings @ query
            scores[[place_of[key] for key in seen if key in place_of]] = -np.inf
            top = np.argpartition(-scores, min(TOP, len(scores) - 1))[:TOP]
            ranked.append(self._item_keys[top[np.argsort(-scores[top])]].tolist())
        by_query = recall_at_k(ranked, self._relevant, 10)
        return {
            "recall_at_10": float(by_query.mean()),
            "recall_at_10_error": float(by_query.std() / np.sqrt(len(by_query))),
            "recall_at_100": float(recall_at_k(ranked, self._relevant, 100).mean()),
            "ndcg_at_10": float(ndcg_at_k(ranked, self._relevant, 10).mean()),
            "photo_weight": float(photo_weights[photo_weights > 0].mean()) if (photo_weights > 0).any() else 0.0,
        }


def _prepare_pool(
    path: Path | UPath, encoder: Encoder, *, wanted: set[int], others: int
) -> tuple[np.ndarray, list[PreparedItems]]:
    """Keys and prepared items of the pool, decoded once for all validations: the wanted, and the first `others`."""
    keys, prepared = [np.zeros(0, dtype=np.int64)], []
    with path.open("rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(ITEMS_PREPARED_AT_ONCE, columns=["item_key", "title", "photo"]):
            is_wanted = np.isin(batch.column("item_key").to_numpy(), list(wanted))
            taken = is_wanted | (np.cumsum(~is_wanted) <= others)
            others -= int((taken & ~is_wanted).sum())
            items = batch.filter(pa.array(taken))
            keys.append(items.column("item_key").to_numpy())
            prepared.append(encoder.prepare_items(items.column("title").to_pylist(), items.column("photo").to_pylist()))
    return np.concatenate(keys), prepared
