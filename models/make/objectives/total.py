"""All objectives as one number to minimise."""

from __future__ import annotations

from torch import Tensor

from models.make.modeling_make import MakeOutput
from models.make.objectives.batch import TrainingBatch
from models.make.objectives.contrastive import contrastive_loss
from models.make.objectives.image_text import image_text_loss
from models.make.objectives.masked_language import masked_language_loss
from models.make.objectives.masks import same_product
from models.make.objectives.matching import matching_loss
from models.make.objectives.settings import ObjectiveSettings


def make_loss(
    output: MakeOutput, batch: TrainingBatch, *, settings: ObjectiveSettings, margin: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of all objectives.

    Args:
        output: what `MakeModel.forward` gave for the batch.
        margin: of the contrast of queries with products, as in `contrastive_loss`.

    Returns:
        The loss to minimise, and its unweighted parts by name; what weighs 0 has no part.
    """
    ignored = batch.masks.ignored(settings)
    queries, item, temperature, has_image = output.query_embedding, output.item, output.temperature, batch.has_image
    weights = settings.weights_of(batch.kinds)
    of_all = {"item_of": batch.item_of, "weights": weights, "temperature": temperature, "ignored": ignored}
    parts = {"query_item": contrastive_loss(queries, item.embedding, **of_all, margin=margin)}
    total = parts["query_item"]
    if settings.query_photo_weight:
        shown = has_image[batch.item_of]
        parts["query_photo"] = contrastive_loss(
            queries[shown],
            item.image_embedding[has_image],
            item_of=(has_image.cumsum(0) - 1)[batch.item_of[shown]],
            weights=weights[shown],
            temperature=temperature,
            ignored=ignored[shown][:, has_image],
        )
        total = total + settings.query_photo_weight * parts["query_photo"]
    if settings.query_title_weight:
        parts["query_title"] = contrastive_loss(queries, item.title_embedding, **of_all)
        total = total + settings.query_title_weight * parts["query_title"]
    if settings.image_text_weight:
        keys = batch.items.title_keys, batch.items.photo_keys
        parts["image_text"] = image_text_loss(
            item.title_embedding,
            item.image_embedding,
            shown=has_image & batch.title_shown.any(dim=1),
            same=same_product(keys, keys),
            temperature=temperature,
        )
        total = total + settings.image_text_weight * parts["image_text"]
    if settings.masked_language_weight:
        parts["masked_language"] = masked_language_loss(output.token_logits, batch.masked.targets)
        total = total + settings.masked_language_weight * parts["masked_language"]
    if settings.matching_weight:
        parts["matching"] = matching_loss(output.matching_logits, output.matches)
        total = total + settings.matching_weight * parts["matching"]
    return total, parts
