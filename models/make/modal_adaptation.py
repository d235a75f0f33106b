"""Modal Adaptation: how much of a product's vector comes from its title and how much from its photo."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.make.configuration_make import MakeConfig


class Attention(nn.Module):
    """Multi-head attention from `queries` to `context`, pre-normed, without the residual."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm, self.context_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, context: Tensor, context_mask: Tensor | None = None) -> Tensor:
        """(batch, n, dim), (batch, m, dim), bool (batch, m) with at least one True a row -> (batch, n, dim)."""
        context = self.context_norm(context)
        q = self._split(self.query(self.query_norm(queries)))  # (batch, heads, n, dim / heads)
        k, v = (self._split(part) for part in self.key_value(context).chunk(2, dim=-1))
        mask = None if context_mask is None else context_mask[:, None, None, :]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.output(attended.transpose(1, 2).flatten(2))

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Pre-normed two-layer perceptron, without the residual."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__(nn.LayerNorm(dim), nn.Linear(dim, inner), nn.GELU(), nn.Linear(inner, dim))


class AttentionPool(nn.Module):
    """A sequence as one vector: every head weighs the positions by one learnt score."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, heads)
        self.value = nn.Linear(dim, dim)

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, n, dim), bool (batch, n) with at least one True a row -> (batch, dim)."""
        scores = self.score(states)  # (batch, n, heads)
        if mask is not None:
            scores = scores.masked_fill(~mask[..., None], float("-inf"))
        weights = scores.softmax(dim=1)
        values = self.value(states).unflatten(-1, (weights.shape[-1], -1))  # (batch, n, heads, dim / heads)
        return torch.einsum("bnh,bnhd->bhd", weights, values).flatten(1)


class Gate(nn.Sequential):
    """Weights of title and photo, a pair for each head; a head weighs its own equal part of the vector."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(nn.Linear(3 * dim, dim), nn.GELU(), nn.Linear(dim, 2 * heads))

    def forward(self, t: Tensor, v: Tensor, has_image: Tensor) -> Tensor:
        """(batch, dim), (batch, dim), bool (batch,) -> (batch, heads, 2)."""
        logits = super().forward(torch.cat([t, v, t * v], dim=-1)).unflatten(-1, (-1, 2))
        return modality_weights(logits, has_image[:, None])


class CrossModalLayer(nn.Module):
    """Title tokens and image patches read each other, then themselves."""

    def __init__(self, config: MakeConfig) -> None:
        super().__init__()
        dim, heads, inner = config.hidden_size, config.num_attention_heads, config.intermediate_size
        self.title_from_image, self.image_from_title = Attention(dim, heads), Attention(dim, heads)
        self.title_from_title, self.image_from_image = Attention(dim, heads), Attention(dim, heads)
        self.title_feed_forward, self.image_feed_forward = FeedForward(dim, inner), FeedForward(dim, inner)

    def forward(self, title: Tensor, title_mask: Tensor, image: Tensor, has_image: Tensor) -> tuple[Tensor, Tensor]:
        """As `ModalAdaptation.forward`; the title of a row without photo reads nothing from its stand-in patches."""
        from_image = self.title_from_image(title, image)
        new_title = title + torch.where(has_image[:, None, None], from_image, 0.0)
        new_image = image + self.image_from_title(image, title, title_mask)
        new_title = new_title + self.title_from_title(new_title, new_title, title_mask)
        new_image = new_image + self.image_from_image(new_image, new_image)
        return new_title + self.title_feed_forward(new_title), new_image + self.image_feed_forward(new_image)


@dataclass
class Adapted:
    """What Modal Adaptation gives.

    Attributes:
        fused: (batch, dim), not yet projected; None for "late", which averages what is projected.
        title: (batch, dim), t of the equations: layer-normed without affine.
        image: (batch, dim), v of the equations; zeros without a photo.
        weights: (batch, 2) = (title, image), the mean over heads, rows sum to 1; (1, 0) without a photo.
    """

    fused: Tensor | None
    title: Tensor
    image: Tensor
    weights: Tensor


class ModalAdaptation(nn.Module):
    """Weigh title against photo, product by product, without a look at the query: the vector serves every query.

    Each head weighs its own part of the vector: the title may tell the brand, and the photo the colour.

    Source: MAKE's abstract names the module and its purpose; the equations are ours (docs/make.md).
    """

    def __init__(self, config: MakeConfig) -> None:
        super().__init__()
        dim, heads = config.hidden_size, config.num_attention_heads
        self.fusion = config.fusion
        layers = config.fusion_layers if config.cross_attention else 0
        self.layers = nn.ModuleList(CrossModalLayer(config) for _ in range(layers))
        self.title_pool, self.image_pool = AttentionPool(dim, heads), AttentionPool(dim, heads)
        if self.fusion == "gate":
            self.gate = Gate(dim, config.gate_heads)
        elif self.fusion == "scalar":
            self.image_logits = nn.Parameter(torch.zeros(config.gate_heads))
        elif self.fusion == "concat":
            self.joint = nn.Sequential(nn.Linear(2 * dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, title: Tensor, title_mask: Tensor, image: Tensor, has_image: Tensor) -> Adapted:
        """Fuse the states of a batch of products.

        Args:
            title: (batch, tokens, dim) title encoder states.
            title_mask: (batch, tokens) bool, True at tokens; at least one a row.
            image: (batch, patches, dim) image encoder states; finite where there is no photo, and else ignored there.
            has_image: (batch,) bool; False makes the photo's weight exactly 0.
        """
        for layer in self.layers:
            title, image = layer(title, title_mask, image, has_image)
        t, v = self.pool_title(title, title_mask), self.pool_image(image, has_image)
        weights = self._weights(t, v, has_image)
        if self.fusion == "late":
            fused = None
        elif self.fusion == "concat":
            fused = self.joint(torch.cat([t, v], dim=-1))
        else:
            sides = torch.stack([t, v], dim=-1).unflatten(1, (weights.shape[1], -1))  # (batch, heads, dim / heads, 2)
            fused = (sides * weights[:, :, None]).sum(dim=-1).flatten(1)
        return Adapted(fused=fused, title=t, image=v, weights=weights.mean(dim=1))

    def pool_title(self, title: Tensor, title_mask: Tensor) -> Tensor:
        """(batch, tokens, dim) -> t (batch, dim).  No affine: else the norms of t and v would carry the weights."""
        pooled = self.title_pool(title, title_mask)
        return F.layer_norm(pooled, pooled.shape[-1:])

    def pool_image(self, image: Tensor, has_image: Tensor) -> Tensor:
        """(batch, patches, dim) -> v (batch, dim), zeros where there is no photo."""
        pooled = self.image_pool(image)
        return torch.where(has_image[:, None], F.layer_norm(pooled, pooled.shape[-1:]), 0.0)

    def _weights(self, t: Tensor, v: Tensor, has_image: Tensor) -> Tensor:
        """(batch, heads, 2); one head for all but "gate" and "scalar"."""
        if self.fusion == "gate":
            return self.gate(t, v, has_image)
        if self.fusion == "scalar":
            logits = torch.stack([torch.zeros_like(self.image_logits), self.image_logits], dim=-1).expand(len(t), -1, 2)
        else:  # "mean" and "late"; "concat" has no weights of its own and reports equal ones
            logits = t.new_zeros(len(t), 1, 2)
        return modality_weights(logits, has_image[:, None])


def modality_weights(logits: Tensor, has_image: Tensor) -> Tensor:
    """(..., 2) logits of title and photo, bool (...) -> weights that sum to 1; (1, 0) where there is no photo."""
    no_photo = torch.stack([torch.zeros_like(has_image), ~has_image], dim=-1)
    return logits.float().masked_fill(no_photo, float("-inf")).softmax(dim=-1)
