"""Single-stream fusion: one transformer over title tokens and patches; what Modal Adaptation is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.make.configuration_make import MakeConfig
from models.make.modal_adaptation import Adapted, Attention, AttentionPool, FeedForward, modality_weights


class SelfAttentionLayer(nn.Module):
    """A pre-normed transformer layer."""

    def __init__(self, config: MakeConfig) -> None:
        super().__init__()
        self.attention = Attention(config.hidden_size, config.num_attention_heads)
        self.feed_forward = FeedForward(config.hidden_size, config.intermediate_size)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """(batch, n, dim), bool (batch, n) with at least one True a row -> (batch, n, dim)."""
        states = states + self.attention(states, states, mask)
        return states + self.feed_forward(states)


class SingleStream(nn.Module):
    """Fuses like `fusion="concat"`, without weights of its own; takes and gives what `ModalAdaptation` does.

    Source: the single-stream encoders of VisualBERT, UNITER and ViLT, with attention pooling in place of [CLS].
    """

    def __init__(self, config: MakeConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.modality = nn.Parameter(torch.randn(2, dim) * config.initializer_range)  # added to title tokens, patches
        self.layers = nn.ModuleList(SelfAttentionLayer(config) for _ in range(config.fusion_layers))
        self.pool = AttentionPool(dim, config.num_attention_heads)

    def forward(self, title: Tensor, title_mask: Tensor, image: Tensor, has_image: Tensor) -> Adapted:
        """Fuse the states of a batch of products; the arguments are those of `ModalAdaptation.forward`."""
        states = torch.cat([title + self.modality[0], image + self.modality[1]], dim=1)
        mask = torch.cat([title_mask, has_image[:, None].expand(image.shape[:2])], dim=1)
        for layer in self.layers:
            states = layer(states, mask)
        return Adapted(
            fused=self._pool(states, mask),
            title=self.pool_title(title, title_mask),
            image=self.pool_image(image, has_image),
            weights=modality_weights(title.new_zeros(len(title), 2), has_image),
        )

    def pool_title(self, title: Tensor, title_mask: Tensor) -> Tensor:
        """(batch, tokens, dim) -> (batch, dim): what the title says by itself."""
        return self._pool(title + self.modality[0], title_mask)

    def pool_image(self, image: Tensor, has_image: Tensor) -> Tensor:
        """(batch, patches, dim) -> (batch, dim), zeros where there is no photo: what the photo says by itself."""
        return torch.where(has_image[:, None], self._pool(image + self.modality[1]), 0.0)

    def _pool(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        pooled = self.pool(states, mask)
        return F.layer_norm(pooled, pooled.shape[-1:])
