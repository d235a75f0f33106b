"""The FAISS index of one shard, opened for search: whichever kind it is, asked in one way."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import faiss
import numpy as np

from jobs.index.manifest import Effort

# How many centroids a search of their graph keeps in view: a multiple of the lists that it looks for, and at least.
_GRAPH_EFFORT_A_LIST, LEAST_GRAPH_EFFORT = 4, 64


class Candidates(NamedTuple):
    """What a shard offers to each query, in no order.

    Attributes:
        scores: (queries, any number) float32 inner products.
        positions: (queries, any number) int64 positions in the shard; -1 where there are fewer.
    """

    scores: np.ndarray
    positions: np.ndarray


class NearLists(NamedTuple):
    """The inverted lists that each query reads, the same in every shard of a build.

    Attributes:
        numbers: (queries, nprobe) int64.
        scores: (queries, nprobe) float32 inner products with the lists' centroids.
    """

    numbers: np.ndarray
    scores: np.ndarray


def open_index(path: str) -> faiss.Index:
    """A FAISS file, its vectors mapped into memory and not read.  Check its digest first: FAISS trusts its input."""
    return faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC)


def list_sizes(index: faiss.Index) -> np.ndarray:
    """(lists,) int64: vectors in each inverted list of an index; empty without lists."""
    lists = faiss.try_extract_index_ivf(index)
    numbers = range(lists.nlist) if lists is not None else ()
    return np.array([lists.invlists.list_size(number) for number in numbers], dtype=np.int64)


def graph_of_centroids(index: faiss.Index) -> faiss.IndexHNSW | None:
    """What finds the nearest inverted lists of an index, where it is a graph."""
    lists = faiss.try_extract_index_ivf(index)
    quantizer = lists and faiss.downcast_index(lists.quantizer)
    return quantizer if isinstance(quantizer, faiss.IndexHNSW) else None


@dataclass(frozen=True)
class ShardIndex:
    """One shard's index, of a kind that `index_key.INDEX_KEY_PATTERN` names.

    Attributes:
        whole: The index.
        base: What preselects where whole vectors only refine; else the same index.
        lists: `base` where it has inverted lists; else None.
    """

    whole: faiss.Index
    base: faiss.Index
    lists: faiss.IndexIVF | None

    @classmethod
    def open(cls, path: str) -> Self:
        """Open a file of which the digest was checked."""
        whole = open_index(path)
        base = faiss.downcast_index(whole.base_index) if isinstance(whole, faiss.IndexRefine) else whole
        return cls(whole, base, faiss.try_extract_index_ivf(base))

    def __len__(self) -> int:
        return self.whole.ntotal

    @property
    def is_graph(self) -> bool:
        """Whether a search walks from vector to vector, and so past those that may not be found."""
        return isinstance(self.base, faiss.IndexHNSW)

    @cached_property
    def _list_of(self) -> np.ndarray:
        """(positions,) int32: the inverted list that each vector lies in."""
        of = np.empty(len(self), dtype=np.int32)
        inverted = self.lists.invlists
        for number in np.flatnonzero(list_sizes(self.lists)).tolist():
            of[faiss.rev_swig_ptr(inverted.get_ids(number), inverted.list_size(number))] = number
        return of

    def in_lists(self, only: np.ndarray) -> np.ndarray:
        """(lists,) how many of the positions that `only`, (positions,) bool, allows lie in each list."""
        return np.bincount(self._list_of[only], minlength=self.lists.nlist)

    def near_lists(self, queries: np.ndarray, nprobe: int, among: np.ndarray | None = None) -> NearLists | None:
        """The lists nearest to each query; None for a kind without any.

        Args:
            queries: (queries, dimension) float32.
            nprobe: How many; as many as there are where there are fewer.
            among: (any,) numbers of lists that count; None: all.
        """
        if self.lists is None:
            return None
        if among is None:
            graph = graph_of_centroids(self.lists)
            kept = max(LEAST_GRAPH_EFFORT, _GRAPH_EFFORT_A_LIST * nprobe)
            parameters = graph and faiss.SearchParametersHNSW(efSearch=kept)
            scores, numbers = self.lists.quantizer.search(queries, min(nprobe, self.lists.nlist), params=parameters)
            return NearLists(numbers, scores)
        centroids = self.lists.quantizer.reconstruct_n(0, self.lists.nlist)[among]
        scores, places = faiss.knn(queries, centroids, min(nprobe, len(among)), faiss.METRIC_INNER_PRODUCT)
        return NearLists(among[places], scores)

    def search(
        self, queries: np.ndarray, k: int, effort: Effort, near: NearLists | None, only: np.ndarray | None
    ) -> Candidates:
        """The k best positions of each query, as far as the effort finds them; more where they were to be refined.

        Args:
            queries: (queries, dimension) float32.
            k: At least 1.
            effort: How hard to search; in place of its `nprobe` stand the lists of `near`.
            near: What `near_lists` of any shard of the build gave.
            only: (positions,) bool, what may be found; None: all.
        """
        selector = None if only is None else faiss.IDSelectorBitmap(np.packbits(only, bitorder="little"))
        if near is not None:
            found = self._search_lists(queries, k * max(1, effort.refine), near, selector)
            return found if self.base is self.whole else self._refined(queries, found)
        if effort.ef_search:
            parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=max(effort.ef_search, k))
        else:
            parameters = faiss.SearchParameters(sel=selector)
        return Candidates(*self.base.search(queries, k, params=parameters))

    def _search_lists(
        self, queries: np.ndarray, k: int, near: NearLists, selector: faiss.IDSelector | None
    ) -> Candidates:
        # FAISS' own wrapper of this call takes no selector.
        found = Candidates(np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64))
        arrays = (queries, near.numbers, near.scores, found.scores, found.positions)
        asked, numbers, centroids, *filled = (faiss.swig_ptr(array) for array in arrays)
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=near.numbers.shape[1])
        self.lists.search_preassigned_c(len(queries), asked, k, numbers, centroids, *filled, False, parameters)
        return found

    def _refined(self, queries: np.ndarray, found: Candidates) -> Candidates:
        """The same positions, scored by their whole vectors."""
        scores = np.empty(found.scores.shape, dtype=np.float32)
        positions = np.ascontiguousarray(found.positions)
        pointers = [faiss.swig_ptr(array) for array in (queries, scores, positions)]
        flat = faiss.downcast_index(self.whole.refine_index)
        flat.compute_distance_subset(len(queries), pointers[0], positions.shape[1], *pointers[1:])
        return Candidates(scores, positions)

    def search_among(self, queries: np.ndarray, k: int, positions: np.ndarray) -> Candidates:
        """The k best of these positions, by comparing with every one of them."""
        vectors = self.vectors(positions)
        scores, places = faiss.knn(queries, vectors, min(k, len(positions)), faiss.METRIC_INNER_PRODUCT)
        return Candidates(scores, positions[places])

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        """(positions, dimension) float32: the vectors at these positions, as they were added."""
        if self.lists is not None and self.base is self.whole:
            self.lists.make_direct_map()  # where the lists alone have the vectors; made once
        return self.whole.reconstruct_batch(positions)
