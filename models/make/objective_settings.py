"""The weights and switches of the objectives; no torch, so that they can be checked and shown without it."""

from __future__ import annotations

from enum import IntEnum
from typing import Self

from pydantic import BaseModel, Field, model_validator


class QueryKind(IntEnum):
    """Where a query of a training batch comes from."""

    CLICKED = 0  # the log: its click led to the product
    OF_TITLE = 1  # made: words of the product's own title
    SIMILAR = 2  # Keyword Enhancement: a neighbour of a query whose click led to the product
    OF_CLICKS = 3  # made: words of queries whose clicks led to the product, and of its title


class ObjectiveSettings(BaseModel, extra="forbid"):
    """Weights and switches of the objectives; a weight of 0 turns its part off, and then it costs nothing."""

    neighbor_mask: bool = Field(True, description="Keyword Enhancement (a): similar queries' clicks are no negatives.")
    neighbor_positive_weight: float = Field(
        0.0, ge=0, description="Keyword Enhancement (b): weight of a similar query as one more query of the product."
    )
    match_popularity: bool = Field(
        True,
        description="A product is a negative of the log's queries as often as they lead to it: never without a click.",
    )
    pseudo_query_weight: float = Field(1.0, ge=0, description="Weight of a query made of the product's words.")
    query_photo_weight: float = Field(0.5, ge=0, description="Contrast of queries with photos alone.")
    query_title_weight: float = Field(0.25, ge=0, description="Contrast of queries with titles alone.")
    image_text_weight: float = Field(
        0.0, ge=0, description="Contrast of titles with photos, of products that have both."
    )
    masked_language_weight: float = Field(
        0.0, ge=0, description='Masked language modelling over queries and titles; of text_encoder "bert" only.'
    )
    masked_share: float = Field(0.15, gt=0, le=1, description="Share of tokens that masked language modelling hides.")
    matching_weight: float = Field(0.0, ge=0, description="Query-product matching by a head, with hard negatives.")
    gather_negatives: bool = Field(True, description="With several processes: all of them contrast as one batch.")
    bank_items: int = Field(0, ge=0, description="Items of earlier steps that are negatives of queries too.")

    @model_validator(mode="after")
    def _the_bank_is_the_same_in_every_process(self) -> Self:
        if self.bank_items and not self.gather_negatives:
            raise ValueError(
                "bank_items needs gather_negatives: every process keeps the items of all, so that a checkpoint of one "
                "restores them all. Set bank_items to 0, or gather_negatives to true."
            )
        return self

    @property
    def heads(self) -> dict[str, bool]:
        """The fields of `MakeConfig` that say which heads the objectives need."""
        return {"masked_language_head": self.masked_language_weight > 0, "matching_head": self.matching_weight > 0}

    @property
    def weights_by_kind(self) -> dict[QueryKind, float]:
        """What a query of each kind weighs; one that the log holds, 1."""
        return {
            QueryKind.CLICKED: 1.0,
            QueryKind.OF_TITLE: self.pseudo_query_weight,
            QueryKind.SIMILAR: self.neighbor_positive_weight,
            QueryKind.OF_CLICKS: self.pseudo_query_weight,
        }
