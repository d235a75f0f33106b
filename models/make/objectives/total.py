"""All objectives as one number to minimise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from models.make.modeling_make import MakeOutput, first_components
from models.make.objective_settings import ObjectiveSettings
from models.make.objectives.batch import TrainingBatch, query_weights
from models.make.objectives.contrastive import Negatives, contrastive_loss
from models.make.objectives.gather import OtherRanks, gather_others, is_distributed
from models.make.objectives.image_text import image_text_loss
from models.make.objectives.masked_language import masked_language_loss
from models.make.objectives.masks import same_product
from models.make.objectives.matching import matching_loss
from models.make.objectives.memory_bank import MemoryBank


def make_loss(
    output: MakeOutput,
    batch: TrainingBatch,
    *,
    settings: ObjectiveSettings,
    margin: float,
    served_dim: int | None = None,
    bank: MemoryBank | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of all objectives.

    Args:
        output: what `MakeModel.forward` gave for the batch.
        margin: of the contrast of queries with products, as in `contrastive_loss`.
        served_dim: components of the vectors that are served; where there are more, the contrasts are the mean of those
            of the served ones and those of all.
        bank: further negatives of the queries; takes in the batch's items afterwards.

    Returns:
        The loss to minimise, and its unweighted parts by name; what weighs 0 has no part.

    Source: the served components are trained as Kusupati et al., Matryoshka Representation Learning (2022), do.
    """
    others = gather_others(output, batch, settings) if settings.gather_negatives and is_distributed() else None
    held = [] if bank is None else bank.negatives(batch.queries, settings)
    contrast = {"batch": batch, "settings": settings, "margin": margin}
    total, parts = _contrasts(output, others=others, held=held, **contrast)
    if served_dim is not None and output.query_embedding.shape[1] > served_dim:
        served, parts = _contrasts(
            _first_components(output, served_dim),
            others=None if others is None else _first_components(others, served_dim),
            held=[more._replace(vectors=first_components(more.vectors, served_dim)) for more in held],
            **contrast,
        )
        total = (served + total) / 2
    if settings.masked_language_weight:
        parts["masked_language"] = masked_language_loss(output.token_logits, batch.masked.targets)
        total = total + settings.masked_language_weight * parts["masked_language"]
    if settings.matching_weight:
        parts["matching"] = matching_loss(output.matching_logits, output.matches)
        total = total + settings.matching_weight * parts["matching"]
    if bank is not None and others is None:
        bank.add(output.item.embedding, batch.items)
    elif bank is not None:
        bank.add(others.all_embeddings, others.all_items)
    return total, parts


def _first_components(output: MakeOutput | OtherRanks, dim: int) -> MakeOutput | OtherRanks:
    queries = first_components(output.query_embedding, dim)
    return replace(output, query_embedding=queries, item=output.item.first(dim))


def _contrasts(
    output: MakeOutput,
    *,
    batch: TrainingBatch,
    settings: ObjectiveSettings,
    margin: float,
    others: OtherRanks | None,
    held: Sequence[Negatives],
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of the objectives that read nothing but vectors, and its unweighted parts."""
    ignored, counts = batch.masks.ignored(settings), batch.masks.counts(settings)
    weights = query_weights(batch.kinds, settings)
    of_all = {"ignored": ignored, "counts": counts, "weights": weights, "others": others}
    parts = {"query_item": _query_contrast(output, batch, "embedding", **of_all, more_items=held, margin=margin)}
    total = parts["query_item"]
    if settings.query_photo_weight:
        shown = batch.own_photo[batch.item_of]
        parts["query_photo"] = _query_contrast(
            output,
            batch,
            "image_embedding",
            ignored=ignored | ~batch.own_photo | ~shown[:, None],
            counts=counts,
            weights=weights * shown,
            others=None if others is None else others.with_photo(),
        )
        total = total + settings.query_photo_weight * parts["query_photo"]
    if settings.query_title_weight:
        parts["query_title"] = _query_contrast(output, batch, "title_embedding", **of_all)
        total = total + settings.query_title_weight * parts["query_title"]
    if settings.image_text_weight:
        parts["image_text"] = image_text_loss(
            output.item.title_embedding,
            output.item.image_embedding,
            shows_both=batch.shows_both,
            same=same_product(batch.items, batch.items),
            temperature=output.temperature,
            others=others,
        )
        total = total + settings.image_text_weight * parts["image_text"]
    return total, parts


def _query_contrast(
    output: MakeOutput,
    batch: TrainingBatch,
    vectors: str,
    *,
    ignored: Tensor,
    counts: Tensor,
    weights: Tensor,
    others: OtherRanks | None,
    more_items: Sequence[Negatives] = (),
    margin: float = 0.0,
) -> Tensor:
    """Contrast of queries with one of the vectors that `ItemOutput` has of each product."""
    more = {"more_items": more_items}
    if others is not None:
        more = {
            "more_items": [Negatives(others.item[vectors], others.items_ignored, others.items_counts), *more_items],
            "more_queries": [Negatives(others.query_embedding, others.queries_ignored)],
            "total_weight": (weights.sum() + others.weights.sum()) / others.ranks,
        }
    return contrastive_loss(
        output.query_embedding,
        output.item[vectors],
        item_of=batch.item_of,
        weights=weights,
        temperature=output.temperature,
        ignored=ignored,
        counts=counts,
        margin=margin,
        **more,
    )
