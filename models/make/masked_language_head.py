"""Masked language modelling: which token stood where one was masked."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.make.configuration_make import MakeConfig


class MaskedTexts(NamedTuple):
    """Queries and titles of which some tokens are hidden.

    Attributes:
        query_ids, title_ids: (texts, tokens, pieces) int64, as the encoders read them.
        query_chosen, title_chosen: (texts, tokens) bool: the tokens to predict.
        targets: (chosen,) int64: what these were, those of queries first.
    """

    query_ids: Tensor
    query_chosen: Tensor
    title_ids: Tensor
    title_chosen: Tensor
    targets: Tensor


class MaskedLanguageHead(nn.Module):
    """BERT's prediction head; its output matrix is the encoder's own token embedding, which it is handed."""

    def __init__(self, config: MakeConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.transform = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim))
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, states: Tensor, embedding: Tensor) -> Tensor:
        """(tokens, dim), (vocabulary, dim) -> logits (tokens, vocabulary)."""
        return F.linear(self.transform(states), embedding, self.bias)
