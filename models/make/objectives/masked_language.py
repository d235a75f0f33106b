"""Masked language modelling over queries and titles, in a forward of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.make.masked_language_head import MaskedTexts
from models.make.objectives.batch import TrainingBatch
from models.make.processing_make import MakeProcessor

# What becomes of a chosen token: [MASK] up to the first share, as it is up to the second, any other word beyond.
_MASKED, _NOT_REPLACED = 0.8, 0.9


def mask_texts(
    batch: TrainingBatch, processor: MakeProcessor, *, share: float, generator: torch.Generator
) -> MaskedTexts:
    """Hide tokens of all queries and titles of a batch.

    Args:
        processor: of text encoder "bert".
        share: of the tokens that are chosen, in 0..1.
        generator: on the CPU, seeded by step, so that a resumed run hides the same.
    """
    words = torch.tensor(sorted(set(range(processor.vocab_size)) - set(processor.special_ids)))
    hidden = {"share": share, "words": words, "mask_id": processor.tokenizer.mask_token_id, "generator": generator}
    queries, query_chosen = mask_tokens(batch.query_ids[..., 0], processor.is_word(batch.query_ids), **hidden)
    titles, title_chosen = mask_tokens(batch.title_ids[..., 0], processor.is_word(batch.title_ids), **hidden)
    targets = torch.cat([batch.query_ids[..., 0][query_chosen], batch.title_ids[..., 0][title_chosen]])
    return MaskedTexts(queries[..., None], query_chosen, titles[..., None], title_chosen, targets)


def mask_tokens(
    ids: Tensor, is_word: Tensor, *, share: float, words: Tensor, mask_id: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Choose words to predict, at least one of each text that has any, and hide them as BERT does.

    Args:
        ids: (texts, tokens) int64.
        is_word: (texts, tokens) bool; the others are never chosen.
        words: (words,) int64: the ids that may stand in for a chosen one.

    Returns:
        The ids, where of ten chosen ones eight are `mask_id`, one is any word and one is what it was; and (texts,
        tokens) bool, the chosen.

    Source: Devlin et al., BERT (2019).
    """
    chance = torch.rand(ids.shape, generator=generator).masked_fill(~is_word, 1.0)
    chosen = is_word & ((chance < share) | (chance == chance.amin(dim=1, keepdim=True)))
    fate = torch.rand(ids.shape, generator=generator)
    others = words[torch.randint(len(words), ids.shape, generator=generator)]
    hidden = torch.where(fate < _MASKED, mask_id, torch.where(fate < _NOT_REPLACED, ids, others))
    return torch.where(chosen, hidden, ids), chosen


def masked_language_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over chosen tokens, fp32 scalar; 0 where none was chosen.

    Args:
        logits: (chosen, vocabulary), of any floating type.
        targets: (chosen,) int64.
    """
    return F.cross_entropy(logits.float(), targets, reduction="sum") / max(1, len(targets))
