"""FAISS' factory strings as far as builds use them: what an index of such a key is made of, and what it takes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

# Each of these has every vector whole: in the lists, in the graph, or beside short codes that only preselect.
INDEX_KEY_PATTERN = (
    r"^(Flat|HNSW[1-9]\d*|IVF[1-9]\d*(_HNSW[1-9]\d*)?,(Flat|(SQ8|PQ[1-9]\d*x4fs|RaBitQ|RaBitQfs),RFlat))$"
)

_FLOAT_BYTES = 4
_ID_BYTES = 8
# What RaBitQ keeps of a vector beside a bit a dimension: its norm and the factors of its estimate.
_RABITQ_EXTRA_BYTES = 8
# FAISS wants so many vectors a list to train on; more improve recall little.
_TRAINING_VECTORS_PER_LIST = 40


@dataclass(frozen=True)
class IndexKey:
    """A factory string, taken apart.

    Attributes:
        text: The string.
        lists: Inverted lists; 0 without.
        links: A vector's links in the graph of all vectors; 0 without.
        code: What the lists hold of a vector: Flat (all of it), SQ8, PQ<m>x4fs, RaBitQ or RaBitQfs.
        refines: Whether vectors lie whole beside their codes, to put what these preselect in order.
    """

    text: str
    lists: int
    links: int
    code: str
    refines: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a string apart that matches `INDEX_KEY_PATTERN`."""
        lists = re.match(r"IVF(\d+)", text)
        links = re.match(r"HNSW(\d+)", text)
        code = text.removesuffix(",RFlat").rpartition(",")[2] if lists else "Flat"
        return cls(
            text=text,
            lists=int(lists.group(1)) if lists else 0,
            links=int(links.group(1)) if links else 0,
            code=code,
            refines=text.endswith(",RFlat"),
        )

    @property
    def training_vectors(self) -> int:
        """Vectors that an index is trained on; 0 when it needs no training."""
        return _TRAINING_VECTORS_PER_LIST * self.lists

    def code_bytes(self, dimension: int) -> int:
        """What a search reads of a vector before anything is refined."""
        if self.code == "Flat":
            return _FLOAT_BYTES * dimension
        if self.code == "SQ8":
            return dimension
        if self.code.startswith("PQ"):
            return int(self.code.removeprefix("PQ").removesuffix("x4fs")) // 2
        return dimension // 8 + _RABITQ_EXTRA_BYTES

    def bytes_a_vector(self, dimension: int) -> int:
        """What a vector takes in the index's file, and in the memory of whoever builds it."""
        links = 2 * self.links * _FLOAT_BYTES  # the graph's lowest level, by far the largest, has twice as many
        ids = _ID_BYTES if self.lists else 0
        whole = _FLOAT_BYTES * dimension if self.refines else 0
        return self.code_bytes(dimension) + links + ids + whole
