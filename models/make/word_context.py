"""What the words of a title say to each other, in an encoder that else reads each word alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.make.configuration_make import MakeConfig


class WordContext(nn.Module):
    """Adds to every word its place, and what one self-attention over the text reads for it.

    Sellers begin a title with what the product is; words that are stuffed in so that more searches find it come later
    and do not fit.  A bag of words cannot tell; place and company can.

    Only real words are projected: most of a padded batch is padding.
    """

    def __init__(self, config: MakeConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.heads = config.num_attention_heads
        self.position = nn.Parameter(torch.zeros(config.title_max_tokens, dim))
        self.norm = nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """(real words, dim) of a batch, bool (batch, tokens) that is True at them -> the same words in context."""
        words = words + self.position[: mask.shape[1]].expand(*mask.shape, -1)[mask]
        parts = self.query_key_value(self.norm(words)).chunk(3, dim=-1)
        query, key, value = (self._spread(part, mask) for part in parts)
        # Spelt out: on a CPU the backward pass of PyTorch's fused attention took a fifth of a training step.
        scores = query @ key.transpose(-1, -2) / key.shape[-1] ** 0.5
        weights = scores.masked_fill(~mask[:, None, None, :], float("-inf")).softmax(dim=-1)
        return words + self.output((weights @ value).transpose(1, 2).flatten(2)[mask])

    def _spread(self, words: Tensor, mask: Tensor) -> Tensor:
        """(real words, dim) -> (batch, heads, tokens, dim / heads), zeros at padding."""
        spread = words.new_zeros(*mask.shape, words.shape[-1])
        spread[mask] = words
        return spread.unflatten(-1, (self.heads, -1)).transpose(1, 2)
