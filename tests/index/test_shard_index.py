"""Where a graph finds the inverted lists, vectors lie in the right ones, and queries read the right ones."""

import numpy as np
import pytest

from jobs.index.shard_index import ShardIndex, list_sizes
from tests.builds import unit

LISTS, ROWS, DIMENSION = 512, 8_000, 32


def directions(rows: int, seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(rows, DIMENSION)))


@pytest.fixture(scope="module")
def shard(write_build, tmp_path_factory) -> ShardIndex:
    """Of a graph so thin that FAISS' own settings lose their way in it."""
    folder = tmp_path_factory.mktemp("build")
    write_build(str(folder), directions(ROWS, seed=1), shards=1, index_key=f"IVF{LISTS}_HNSW6,Flat")
    return ShardIndex.open(str(folder / "shard-00000-of-00001.faiss"))


def nearest(shard: ShardIndex, vectors: np.ndarray, nprobe: int) -> np.ndarray:
    """The lists with the nearest centroids, by comparing with every one."""
    centroids = shard.lists.quantizer.reconstruct_n(0, LISTS)
    return np.argsort(-vectors @ centroids.T, axis=1)[:, :nprobe]


def test_queries_read_the_lists_that_are_nearest(shard):
    queries = directions(300, seed=2)
    for nprobe in (1, 8, 64):
        near = shard.near_lists(queries, nprobe).numbers
        meant = nearest(shard, queries, nprobe)
        right = np.mean([np.isin(found, wanted).mean() for found, wanted in zip(near, meant, strict=True)])
        assert right > 0.99, nprobe


def test_vectors_lie_in_the_list_that_is_nearest(shard):
    positions = np.arange(ROWS)
    meant = nearest(shard, shard.vectors(positions), 1)[:, 0]
    in_meant = sum(shard.in_lists(positions[meant == number])[number] for number in range(LISTS))
    assert in_meant / ROWS > 0.99
    assert list_sizes(shard.whole).sum() == ROWS
