"""What MAKE is trained to do: contrast queries with products, without pushing away what is known to be relevant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor

from models.make.modeling_make import MakeOutput
from models.make.text import CLS_ID


class ObjectiveSettings(BaseModel, extra="forbid"):
    """Weights and switches of the objectives; a weight of 0 turns its part off."""

    title_mask: bool = Field(True, description="Products whose title holds every word of a query are no negatives.")
    neighbor_mask: bool = Field(True, description="Keyword Enhancement (a): similar queries' clicks are no negatives.")
    neighbor_positive_weight: float = Field(
        0.0, ge=0, description="Keyword Enhancement (b): weight of the similar query as one more query of the product."
    )
    query_photo_weight: float = Field(0.5, ge=0, description="Contrast of queries with photos alone.")
    query_title_weight: float = Field(0.25, ge=0, description="Contrast of queries with titles alone.")


def contrastive_loss(
    queries: Tensor, items: Tensor, *, temperature: Tensor, ignored: Tensor, margin: float = 0.0
) -> Tensor:
    """Symmetric in-batch contrastive loss; row i of `queries` belongs to row i of `items`.

    Args:
        queries, items: (batch, dim), unit norm.
        temperature: scalar that divides the cosines.
        ignored: (batch, batch) bool; True at [i, j] leaves item j out of query i's negatives and query i out of item
            j's.  The diagonal, the positives, is never ignored.
        margin: subtracted from the positives' cosine, so that they must win by this much.

    Returns:
        Mean of the two directions, fp32 scalar; 0 for an empty batch.
    """
    if len(queries) == 0:
        return queries.sum() * 0.0
    positives = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    cosines = queries.float() @ items.float().T
    logits = (cosines - margin * positives) / temperature.float()
    logits = logits.masked_fill(ignored & ~positives, float("-inf"))
    labels = torch.arange(len(queries), device=queries.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def make_loss(
    output: MakeOutput,
    *,
    has_image: Tensor,
    has_similar: Tensor,
    relevant: Tensor,
    neighbors: Tensor,
    covered: Tensor,
    settings: ObjectiveSettings,
    margin: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of all objectives.

    Args:
        output: what `MakeModel.forward` gave for the batch.
        has_image: (batch,) bool; rows without a photo take no part in the contrast with photos.
        has_similar: (batch,) bool; rows with a similar query, whose vectors are in `output.similar_query_embedding`.
        relevant: (batch, batch) bool; [i, j]: query i's log clicked item j, or items i and j share a title or photo.
        neighbors: (batch, batch) bool; [i, j]: a query similar to query i clicked item j.
        covered: (batch, batch) bool; [i, j]: the title of item j holds every word of query i.

    Returns:
        The loss to minimise, and its unweighted parts by name.
    """
    if settings.title_mask:
        relevant = relevant | covered
    ignored = relevant | neighbors if settings.neighbor_mask else relevant
    item, temperature = output.item, output.temperature
    parts = {
        "query_item": contrastive_loss(
            output.query_embedding, item.embedding, temperature=temperature, ignored=ignored, margin=margin
        )
    }
    total = parts["query_item"]
    if settings.neighbor_positive_weight:
        # The similar query's own clicks are among the neighbours: the mask is the union of both queries' products.
        both = (relevant | neighbors)[has_similar][:, has_similar]
        parts["similar_query_item"] = contrastive_loss(
            output.similar_query_embedding[has_similar],
            item.embedding[has_similar],
            temperature=temperature,
            ignored=both,
            margin=margin,
        )
        total = total + settings.neighbor_positive_weight * parts["similar_query_item"]
    if settings.query_photo_weight:
        parts["query_photo"] = contrastive_loss(
            output.query_embedding[has_image],
            item.image_embedding[has_image],
            temperature=temperature,
            ignored=ignored[has_image][:, has_image],
        )
        total = total + settings.query_photo_weight * parts["query_photo"]
    if settings.query_title_weight:
        parts["query_title"] = contrastive_loss(
            output.query_embedding, item.title_embedding, temperature=temperature, ignored=ignored
        )
        total = total + settings.query_title_weight * parts["query_title"]
    return total, parts


def listed_items(item_keys: np.ndarray, lists: Sequence[np.ndarray]) -> np.ndarray:
    """Which items of a batch stand in each row's list.

    Args:
        item_keys: (batch,) int64, may repeat.
        lists: one int64 array of item keys a row, of any length.

    Returns:
        (batch, batch) bool; [i, j] says that `item_keys[j]` is in `lists[i]`.
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
    """(batch, batch) bool; [i, j] says that title j holds every word of query i; never so for a query without words.

    Args:
        query_words, title_words: (batch, tokens) ids of whole words, padded; their lengths may differ.
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
    """(batch, batch) bool: equal title, or equal photo; a photo key of 0 means no photo and equals nothing."""
    same_title = title_keys[:, None] == title_keys[None, :]
    same_photo = (photo_keys[:, None] == photo_keys[None, :]) & (photo_keys[:, None] != 0)
    return same_title | same_photo
