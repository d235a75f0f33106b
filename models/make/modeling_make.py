"""MAKE: three encoders (query, title, photo), Modal Adaptation, and one space in which a query finds products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedModel
from transformers.utils import ModelOutput

from models.make.backbones import config_of_backbones, create_backbone, load_image_backbone, load_text_backbone
from models.make.configuration_make import MakeConfig
from models.make.masked_language_head import MaskedLanguageHead, MaskedTexts
from models.make.matching_head import MatchingHead, MatchingPairs
from models.make.modal_adaptation import AttentionPool, FeedForward, ModalAdaptation
from models.make.single_stream import SingleStream
from models.make.text import PADDING_ID
from models.make.word_context import WordContext


class SubwordTextEncoder(nn.Module):
    """A bag of hashed pieces a word, and one perceptron over each word; words meet in pooling, and in a context if any.

    Args:
        in_context: whether each word sees its place and the others, as `WordContext` says.
    """

    def __init__(self, config: MakeConfig, *, in_context: bool) -> None:
        super().__init__()
        self.pieces = nn.EmbeddingBag(config.vocab_size, config.hidden_size, mode="mean", padding_idx=PADDING_ID)
        nn.init.normal_(self.pieces.weight, std=config.initializer_range)
        self.norm = nn.LayerNorm(config.hidden_size)
        self.context = WordContext(config) if in_context else None
        self.feed_forward = FeedForward(config.hidden_size, config.intermediate_size)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, tokens, pieces) int64 -> states (batch, tokens, dim), mask (batch, tokens) bool."""
        mask = ids[..., 0] != PADDING_ID
        # Only real words are looked up: most of a padded batch is padding.
        words = self.norm(self.pieces(ids[mask]))
        if self.context is not None:
            words = self.context(words, mask)
        words = words + self.feed_forward(words)
        states = words.new_zeros(*mask.shape, words.shape[-1])
        states[mask] = words
        return states, mask


class BertTextEncoder(nn.Module):
    """A BERT-style transformer over WordPiece tokens."""

    def __init__(self, config: MakeConfig) -> None:
        super().__init__()
        self.bert = BertModel(
            BertConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.hidden_size,
                num_hidden_layers=config.num_hidden_layers,
                num_attention_heads=config.num_attention_heads,
                intermediate_size=config.intermediate_size,
                hidden_dropout_prob=config.hidden_dropout,
                attention_probs_dropout_prob=config.hidden_dropout,
                max_position_embeddings=max(config.query_max_tokens, config.title_max_tokens),
                initializer_range=config.initializer_range,
                **{"pad_token_id": PADDING_ID, **(config.text_backbone_args or {})},
            ),
            add_pooling_layer=False,
        )
        self.masked_language_head = MaskedLanguageHead(config) if config.masked_language_head else None

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, tokens, 1) int64 -> states (batch, tokens, dim), mask (batch, tokens) bool."""
        token_ids = ids[..., 0]
        mask = token_ids != self.bert.config.pad_token_id
        return self.bert(input_ids=token_ids, attention_mask=mask.long()).last_hidden_state, mask

    def predict_tokens(self, ids: Tensor, chosen: Tensor) -> Tensor:
        """(batch, tokens, 1) int64, (batch, tokens) bool -> logits (chosen tokens, vocabulary)."""
        states, _ = self(ids)
        return self.masked_language_head(states[chosen], self.bert.embeddings.word_embeddings.weight)


def create_text_encoder(config: MakeConfig, *, of_titles: bool) -> nn.Module:
    """An encoder that a configuration names; queries, whose words come in any order, need no context."""
    if config.text_encoder == "bert":
        return BertTextEncoder(config)
    return SubwordTextEncoder(config, in_context=of_titles and config.word_context)


class ImageEncoder(nn.Module):
    """A timm backbone whose feature map, or tokens, become patches of the model's width.

    Raises:
        ValueError: as `create_backbone`.
    """

    def __init__(self, config: MakeConfig) -> None:
        super().__init__()
        self.backbone = create_backbone(config)
        self.project = nn.Linear(self.backbone.num_features, config.hidden_size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(photos, 3, height, width) -> (photos, patches, dim)."""
        features = self.backbone.forward_features(pixel_values)
        if features.ndim == 4:
            channels_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
            features = features.flatten(1, 2) if channels_last else features.flatten(2).transpose(1, 2)
        return self.project(features)


def first_components(vectors: Tensor, dim: int) -> Tensor:
    """(rows, any) unit vectors -> (rows, dim): the first components, with unit norm again."""
    return vectors if vectors.shape[-1] == dim else F.normalize(vectors[..., :dim], dim=-1)


@dataclass
class ItemOutput(ModelOutput):
    """Product vectors of a batch; `dim` is `embedding_dim`, or in a training forward `training_dim`, where set.

    Attributes:
        embedding: (batch, dim), unit norm.
        weights: (batch, 2) = (title, image), rows sum to 1.
        title_embedding: (batch, dim), unit norm: from the title alone.
        image_embedding: (batch, dim), unit norm: from the photo alone; meaningless where there is none.
    """

    embedding: Tensor | None = None
    weights: Tensor | None = None
    title_embedding: Tensor | None = None
    image_embedding: Tensor | None = None

    def first(self, dim: int) -> ItemOutput:
        """The same with vectors of the first `dim` components."""
        vectors = {name: first_components(value, dim) for name, value in self.items() if name != "weights"}
        return ItemOutput(weights=self.weights, **vectors)


@dataclass
class ItemStates(ModelOutput):
    """Encoder states of a batch of products, before Modal Adaptation; see `ModalAdaptation.forward` for the shapes."""

    title: Tensor | None = None
    title_mask: Tensor | None = None
    image: Tensor | None = None
    has_image: Tensor | None = None


@dataclass
class MakeOutput(ModelOutput):
    """One training forward.

    Attributes:
        query_embedding: (queries, dim), unit norm; of the space that is trained, as the products' vectors are.
        item: the products' vectors.
        temperature: scalar that divides the cosines of the two.
        token_logits: (chosen tokens, vocabulary), those of queries first; None without masked texts.
        matching_logits: (pairs,) of the matching head; None where no pairs were drawn.
        matches: (pairs,) float: 1 where the pair's product is the query's own, else 0.
    """

    query_embedding: Tensor | None = None
    item: ItemOutput | None = None
    temperature: Tensor | None = None
    token_logits: Tensor | None = None
    matching_logits: Tensor | None = None
    matches: Tensor | None = None


class MakeModel(PreTrainedModel):
    """Multimodal retrieval: queries and products as unit vectors of `config.embedding_dim`; their product is the score.

    Source: MAKE (Taobao Search, WWW'23 companion) for the three encoders and Modal Adaptation; what the abstract leaves
    open is ours, and docs/make.md says which is which.
    """

    config_class = MakeConfig
    main_input_name = "query_ids"

    def __init__(self, config: MakeConfig) -> None:
        super().__init__(config)
        self.query_encoder = create_text_encoder(config, of_titles=config.shared_text_encoder)
        # When shared there is no second module, so that nothing is tied, saved twice or counted twice.
        self.own_title_encoder = None if config.shared_text_encoder else create_text_encoder(config, of_titles=True)
        self.query_pool = (
            AttentionPool(config.hidden_size, config.num_attention_heads) if config.text_encoder == "subwords" else None
        )
        trained_dim = config.training_dim or config.embedding_dim
        self.query_projection = nn.Linear(config.hidden_size, trained_dim)
        self.image_encoder = ImageEncoder(config) if config.use_image else None
        fusion = SingleStream if config.fusion == "single_stream" else ModalAdaptation
        self.modal_adaptation = fusion(config)
        self.item_projection = nn.Linear(config.hidden_size, trained_dim)
        self.matching_head = MatchingHead(config) if config.matching_head else None
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: each module, timm's above all, initialises itself, and `from_pretrained` refuses missing weights."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Load a saved model; all weights must be there.

        transformers builds a model on the meta device, where buffers that are not saved lose their values (relative
        positions of Swin, rotary tables); they are restored from a fresh backbone.

        Raises:
            ValueError: weights are missing from, or unknown to, the model that the configuration describes.
        """
        model, report = super().from_pretrained(
            pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
        )
        wrong = {name: sorted(report[name]) for name in ("missing_keys", "unexpected_keys") if report[name]}
        if wrong:
            raise ValueError(f"{pretrained_model_name_or_path}: weights and config.json do not match: {wrong}.")
        if model.image_encoder is not None:
            restore_unsaved_buffers(model.image_encoder.backbone, create_backbone(model.config))
        return model

    @classmethod
    def from_backbones(cls, config: MakeConfig, *, text: str | None = None, image: str | None = None) -> Self:
        """A new model whose encoders begin with pretrained weights; the arguments are `config_of_backbones`'s.

        Queries and titles begin with the same weights, and each goes on with its own.
        """
        model = cls(config_of_backbones(config, text=text, image=image))
        # Not in __init__, whose weights from_pretrained would overwrite, or miss.
        if text is not None:
            for encoder in {model.query_encoder, model.title_encoder}:
                load_text_backbone(encoder.bert, text)
        if image is not None:
            load_image_backbone(model.image_encoder.backbone, model.config, image)
        return model

    @property
    def title_encoder(self) -> nn.Module:
        """The encoder of titles, which is the queries' when they share one."""
        return self.query_encoder if self.own_title_encoder is None else self.own_title_encoder

    @property
    def temperature(self) -> Tensor:
        """The learnt temperature; `limit_temperature` keeps it within the configuration's bounds."""
        return self.log_temperature.exp()

    @torch.no_grad()
    def limit_temperature(self) -> None:
        """Bring the temperature back within its bounds, after each step.

        A clamp in the forward pass would have no gradient beyond a bound, so that what momentum carried there stays.
        """
        self.log_temperature.clamp_(math.log(self.config.temperature_min), math.log(self.config.temperature_max))

    def encode_queries(self, query_ids: Tensor) -> Tensor:
        """(batch, tokens, pieces) -> (batch, embedding_dim), unit norm."""
        return first_components(self._pool_query(*self.query_encoder(query_ids)), self.config.embedding_dim)

    def _pool_query(self, states: Tensor, mask: Tensor) -> Tensor:
        pooled = states[:, 0] if self.query_pool is None else self.query_pool(states, mask)
        return F.normalize(self.query_projection(F.layer_norm(pooled, pooled.shape[-1:])).float(), dim=-1)

    def item_states(self, title_ids: Tensor, pixel_values: Tensor, has_image: Tensor) -> ItemStates:
        """Encode titles and photos, each on its own.

        Args:
            title_ids: (batch, tokens, pieces) int64.
            pixel_values: (batch, 3, height, width) float; rows without a photo may hold anything.
            has_image: (batch,) bool.
        """
        title, title_mask = self.title_encoder(title_ids)
        if self.image_encoder is None:
            image, has_image = title.new_zeros(len(title), 1, title.shape[-1]), torch.zeros_like(has_image)
        else:
            image = self._image_states(pixel_values, has_image)
        return ItemStates(title=title, title_mask=title_mask, image=image, has_image=has_image)

    def _image_states(self, pixel_values: Tensor, has_image: Tensor) -> Tensor:
        """Run the backbone over the photos that exist; the others' states are zeros, whatever pixels stand in."""
        rows = has_image.nonzero().squeeze(1)
        pixels = pixel_values[rows]
        if len(rows) == 0:
            # A blank photo, masked below, keeps every weight in the graph: data-parallel training needs that.
            rows, pixels = rows.new_zeros(1), torch.zeros_like(pixel_values[:1])
        if self.training and len(rows) == 1:
            pixels = pixels.repeat(2, 1, 1, 1)  # batch norm refuses a single value a channel
        photos = self.image_encoder(pixels)[: len(rows)]
        states = photos.new_zeros(len(has_image), *photos.shape[1:]).index_copy(0, rows, photos)
        return torch.where(has_image[:, None, None], states, 0.0)

    def fuse(self, states: ItemStates) -> ItemOutput:
        """Modal Adaptation and the projection into the served space."""
        return self._fuse(states).first(self.config.embedding_dim)

    def without_photo(self, states: ItemStates, output: ItemOutput) -> Tensor:
        """(batch, embedding_dim): the vectors that the same products would have without photo.

        Args:
            states: of the products.
            output: what `fuse` made of them.
        """
        if self.config.cross_attention or self.config.fusion in ("concat", "single_stream"):
            return self.fuse(replace(states, has_image=torch.zeros_like(states.has_image))).embedding
        return output.title_embedding  # whose weight would be 1

    def _fuse(self, states: ItemStates) -> ItemOutput:
        """The same as `fuse` in the space that is trained."""
        adapted = self.modal_adaptation(states.title, states.title_mask, states.image, states.has_image)
        if self.config.cross_attention:  # t and v have read each other: pool what each modality says by itself
            title = self.modal_adaptation.pool_title(states.title, states.title_mask)
            image = self.modal_adaptation.pool_image(states.image, states.has_image)
        else:
            title, image = adapted.title, adapted.image
        title, image, weights = self._project(title), self._project(image), adapted.weights
        if self.config.fusion == "late":
            embedding = F.normalize(weights[:, :1] * title + weights[:, 1:] * image, dim=-1)
        else:
            embedding = self._project(adapted.fused)
        return ItemOutput(embedding=embedding, weights=weights, title_embedding=title, image_embedding=image)

    def _project(self, states: Tensor) -> Tensor:
        return F.normalize(self.item_projection(states).float(), dim=-1)

    def encode_items(self, title_ids: Tensor, pixel_values: Tensor, has_image: Tensor) -> ItemOutput:
        """Product vectors; the arguments are those of `item_states`."""
        return self.fuse(self.item_states(title_ids, pixel_values, has_image))

    def forward(
        self,
        query_ids: Tensor,
        title_ids: Tensor,
        pixel_values: Tensor,
        has_image: Tensor,
        masked: MaskedTexts | None = None,
        draw_pairs: Callable[[Tensor], MatchingPairs] | None = None,
    ) -> MakeOutput:
        """Everything that the objectives read, in one call, since data-parallel training hooks into this one.

        There may be more queries than products, or fewer; the other arguments are those of `item_states`.

        Args:
            masked: texts whose hidden tokens are predicted, where the configuration has a `masked_language_head`.
            draw_pairs: from (queries, items) cosines over the temperature, which pairs the `matching_head` judges.
        """
        query_states, query_mask = self.query_encoder(query_ids)
        item_states = self.item_states(title_ids, pixel_values, has_image)
        output = MakeOutput(
            query_embedding=self._pool_query(query_states, query_mask),
            item=self._fuse(item_states),
            temperature=self.temperature,
        )
        if masked is not None:
            output.token_logits = self._predict_tokens(masked)
        if draw_pairs is not None:
            cosines = output.query_embedding @ output.item.embedding.T
            pairs = draw_pairs((cosines / output.temperature).detach())
            item = (states[pairs.items] for states in item_states.to_tuple())
            output.matching_logits = self.matching_head(query_states[pairs.queries], query_mask[pairs.queries], *item)
            output.matches = pairs.matches
        return output

    def _predict_tokens(self, masked: MaskedTexts) -> Tensor:
        of_queries = self.query_encoder.predict_tokens(masked.query_ids, masked.query_chosen)
        return torch.cat([of_queries, self.title_encoder.predict_tokens(masked.title_ids, masked.title_chosen)])


def restore_unsaved_buffers(loaded: nn.Module, fresh: nn.Module) -> None:
    """Copy the buffers that a state dict leaves out from a freshly built module to the same module after loading."""
    for name, module in fresh.named_modules():
        target = loaded.get_submodule(name)
        for buffer in module._non_persistent_buffers_set:
            value = getattr(module, buffer)
            if value is not None:
                setattr(target, buffer, value.to(next(loaded.parameters()).device))
