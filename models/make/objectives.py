"""What MAKE is trained to do: contrast queries with products, without pushing away what is known to be relevant."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor

from models.make.modeling_make import MakeOutput
from models.make.text import CLS_ID

# A logit below all others: unlike -inf, a row of nothing but these has a finite gradient.
_NO_NEGATIVE = -1e4
_TINY = 1e-6


class QueryKind(IntEnum):
    """Where a query of a training batch comes from."""

    CLICKED = 0  # the log: its click led to the product
    OF_TITLE = 1  # words of the product's own title
    SIMILAR = 2  # Keyword Enhancement: a neighbour of a query whose click led to the product


class ObjectiveSettings(BaseModel, extra="forbid"):
    """Weights and switches of the objectives; a weight of 0 turns its part off."""

    title_mask: bool = Field(True, description="Products whose title holds every word of a query are no negatives.")
    neighbor_mask: bool = Field(True, description="Keyword Enhancement (a): similar queries' clicks are no negatives.")
    neighbor_positive_weight: float = Field(
        0.0, ge=0, description="Keyword Enhancement (b): weight of a similar query as one more query of the product."
    )
    title_query_weight: float = Field(1.0, ge=0, description="Weight of a query made of the product's title.")
    query_photo_weight: float = Field(0.5, ge=0, description="Contrast of queries with photos alone.")
    query_title_weight: float = Field(0.25, ge=0, description="Contrast of queries with titles alone.")

    def weights_of(self, kinds: Tensor) -> Tensor:
        """(queries,) kinds -> (queries,) float32 weights; a query that the log holds weighs 1."""
        by_kind = torch.tensor([1.0, self.title_query_weight, self.neighbor_positive_weight], device=kinds.device)
        return by_kind[kinds]


def contrastive_loss(
    queries: Tensor,
    items: Tensor,
    *,
    item_of: Tensor,
    weights: Tensor,
    temperature: Tensor,
    ignored: Tensor,
    margin: float = 0.0,
) -> Tensor:
    """Symmetric in-batch contrastive loss between queries and items, of which each may have several queries.

    Each query stands against the items that are not its own, and its item against the queries that are not the item's.

    Args:
        queries: (queries, dim), unit norm.
        items: (items, dim), unit norm.
        item_of: (queries,) int64: the row of `items` that a query belongs to.
        weights: (queries,) of the mean over queries.
        temperature: scalar that divides the cosines.
        ignored: (queries, items) bool; True at [i, j] leaves item j out of query i's negatives and query i out of item
            j's.  A query's own item is never ignored.
        margin: subtracted from a query's cosine to its own item, so that it must win by this much.

    Returns:
        Weighted mean of the two directions, fp32 scalar; 0 where no query has a weight.
    """
    logits = queries.float() @ items.float().T / temperature.float()
    positives = logits.gather(1, item_of[:, None]).squeeze(1) - margin / temperature.float()
    own = item_of[:, None] == torch.arange(len(items), device=items.device)
    negatives = logits.masked_fill(ignored | own, _NO_NEGATIVE)
    against_items = F.softplus(negatives.logsumexp(dim=1) - positives)
    against_queries = F.softplus(negatives.logsumexp(dim=0)[item_of] - positives)
    weights = weights.float()
    return ((against_items + against_queries) / 2 * weights).sum() / weights.sum().clamp(min=_TINY)


def make_loss(
    output: MakeOutput,
    *,
    item_of: Tensor,
    kinds: Tensor,
    has_image: Tensor,
    relevant: Tensor,
    neighbors: Tensor,
    covered: Tensor,
    settings: ObjectiveSettings,
    margin: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of all objectives.

    Args:
        output: what `MakeModel.forward` gave for the batch.
        item_of: (queries,) int64: the product that a query belongs to.
        kinds: (queries,) int64, of `QueryKind`.
        has_image: (items,) bool; products without a photo take no part in the contrast with photos.
        relevant: (queries, items) bool; query i's log clicked item j, or j shares title or photo with the query's item.
        neighbors: (queries, items) bool; a query similar to query i clicked item j.
        covered: (queries, items) bool; the title of item j holds every word of query i.

    Returns:
        The loss to minimise, and its unweighted parts by name.
    """
    ignored = relevant
    if settings.title_mask:
        ignored = ignored | covered
    if settings.neighbor_mask:
        ignored = ignored | neighbors
    queries, item, temperature = output.query_embedding, output.item, output.temperature
    weights = settings.weights_of(kinds)
    of_all = {"item_of": item_of, "weights": weights, "temperature": temperature, "ignored": ignored}
    parts = {"query_item": contrastive_loss(queries, item.embedding, **of_all, margin=margin)}
    total = parts["query_item"]
    if settings.query_photo_weight:
        shown = has_image[item_of]
        parts["query_photo"] = contrastive_loss(
            queries[shown],
            item.image_embedding[has_image],
            item_of=(has_image.cumsum(0) - 1)[item_of[shown]],
            weights=weights[shown],
            temperature=temperature,
            ignored=ignored[shown][:, has_image],
        )
        total = total + settings.query_photo_weight * parts["query_photo"]
    if settings.query_title_weight:
        parts["query_title"] = contrastive_loss(queries, item.title_embedding, **of_all)
        total = total + settings.query_title_weight * parts["query_title"]
    return total, parts


def listed_items(item_keys: np.ndarray, lists: Sequence[np.ndarray]) -> np.ndarray:
    """Which items of a batch stand in each query's list.

    Args:
        item_keys: (items,) int64, may repeat.
        lists: one int64 array of item keys a query, of any length.

    Returns:
        (queries, items) bool; [i, j] says that `item_keys[j]` is in `lists[i]`.
    """
    found = np.zeros((len(lists), len(item_keys)), dtype=bool)
    lengths = np.fromiter((len(row) for row in lists), dtype=np.int64, count=len(lists))
    if not lengths.sum():
        return found
    unique, column_of = np.unique(item_keys, return_inverse=True)
    keys = np.concatenate(lists)
    places = np.minimum(np.searchsorted(unique, keys), len(unique) - 1)
    hits = unique[places] == keys
    by_unique = np.zeros((len(lists), len(unique)), dtype=bool)
    by_unique[np.repeat(np.arange(len(lists)), lengths)[hits], places[hits]] = True
    return by_unique[:, column_of]


def covering_titles(query_words: np.ndarray, title_words: np.ndarray) -> np.ndarray:
    """(queries, titles) bool; [i, j]: title j holds every word of query i; never so for a query without words.

    Args:
        query_words: (queries, tokens) ids of whole words, padded.
        title_words: (titles, tokens) likewise.
    """
    vocabulary = np.unique(query_words[query_words > CLS_ID])
    wanted, held = (_contains(words, vocabulary) for words in (query_words, title_words))
    missing = wanted.astype(np.float32) @ (~held).astype(np.float32).T
    return (missing == 0) & wanted.any(axis=1)[:, None]


def _contains(words: np.ndarray, vocabulary: np.ndarray) -> np.ndarray:
    """(batch, tokens) ids -> (batch, len(vocabulary)) bool: which of the vocabulary, sorted, a row holds."""
    places = np.minimum(np.searchsorted(vocabulary, words), max(0, len(vocabulary) - 1))
    rows, columns = np.nonzero(vocabulary[places] == words) if len(vocabulary) else (np.zeros(0, int),) * 2
    found = np.zeros((len(words), len(vocabulary)), dtype=bool)
    found[rows, places[rows, columns]] = True
    return found


def same_product(title_keys: np.ndarray, photo_keys: np.ndarray) -> np.ndarray:
    """(items, items) bool: equal title, or equal photo; a photo key of 0 means no photo and equals nothing."""
    same_title = title_keys[:, None] == title_keys[None, :]
    same_photo = (photo_keys[:, None] == photo_keys[None, :]) & (photo_keys[:, None] != 0)
    return same_title | same_photo
