"""The empty trained index that every shard of a build begins as: kept from an earlier build, or trained."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import faiss
import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.core.job import JobError
from jobs.core.lake import Lake
from jobs.index.builds import INDEXES
from jobs.index.index_key import IndexKey
from jobs.index.manifest import BuildIntegrityError, Manifest, Training, verify_file
from jobs.index.shard import vectors_of
from jobs.index.shard_index import LEAST_GRAPH_EFFORT, graph_of_centroids
from schemas import INDEX_BUILDS

TRAINED_FILE = "trained.faiss"
# Of such builds nothing is kept: the lists may be what was wrong, or the folder is gone.
_NOT_KEPT_FROM = ("failed", "removed")


@dataclass(frozen=True)
class TrainedIndex:
    """An empty trained index.

    Args:
        content: As `faiss.serialize_index` gives it, uint8.
        origin: Why it is this one, in words.
        kept: What the build that it was kept from says of it; None: it was trained for this build.
    """

    content: np.ndarray
    origin: str
    kept: Training | None = None

    def described(self, build_id: str, sizes: np.ndarray) -> Training:
        """What the build's manifest says of it.

        Args:
            build_id: The build.
            sizes: (lists,) vectors in each inverted list, over all shards.
        """
        imbalance = imbalance_of(sizes)
        return Training(
            file=TRAINED_FILE,
            sha256=hashlib.sha256(self.content.tobytes()).hexdigest(),
            build_id=self.kept.build_id if self.kept else build_id,
            imbalance=imbalance,
            first_imbalance=self.kept.first_imbalance if self.kept else imbalance,
        )


def imbalance_of(sizes: np.ndarray) -> float:
    """FAISS' imbalance factor: how many times the vectors are read that would be, were all lists of one length."""
    return round(len(sizes) * float((sizes.astype(float) ** 2).sum()) / float(sizes.sum()) ** 2, 6)


def keep_or_train(
    lake: Lake,
    rows: DataFrame,
    key: IndexKey,
    *,
    model_version: str,
    dimension: int,
    vectors: int,
    max_imbalance: float,
) -> TrainedIndex:
    """The empty index of a build: that of the model's newest build of its kind while the lists fit, else a new one.

    Args:
        lake: The lake.
        rows: item_id, embedding: what is to be indexed.
        key: The kind of index.
        model_version: The model of the vectors.
        dimension: Length of a vector.
        vectors: How many rows there are.
        max_imbalance: How much less even the lists may have become since they were trained, as a ratio.

    Raises:
        JobError: There are fewer vectors than lists.
    """
    if not key.training_vectors:
        index = faiss.index_factory(dimension, key.text, faiss.METRIC_INNER_PRODUCT)
        return TrainedIndex(faiss.serialize_index(index), "needs no training")
    earlier = _newest_trained(lake, key, model_version=model_version, dimension=dimension)
    if earlier is None:
        origin = "lists trained: no earlier build of this model and kind"
    elif earlier.training.imbalance > max_imbalance * earlier.training.first_imbalance:
        origin = (
            f"lists trained anew: their imbalance was {earlier.training.imbalance:.2f} in {earlier.build_id}, "
            f"{earlier.training.first_imbalance:.2f} when they were trained"
        )
    else:
        content = np.frombuffer(lake.fs.cat_file(lake.path(INDEXES, earlier.build_id, TRAINED_FILE)), dtype=np.uint8)
        return TrainedIndex(content, f"lists of {earlier.training.build_id} kept", earlier.training)
    return TrainedIndex(train(_sample(rows, key, vectors), key), origin)


def _newest_trained(lake: Lake, key: IndexKey, *, model_version: str, dimension: int) -> Manifest | None:
    """The manifest of the newest build whose empty index would do; None where there is none, or it is damaged."""
    builds = lake.read(INDEX_BUILDS).where(~F.col("status").isin(*_NOT_KEPT_FROM))
    same = (F.col("model_version") == model_version) & (F.col("index_key") == key.text)
    newest = builds.where(same & (F.col("dimension") == dimension)).orderBy(F.desc("built_at")).first()
    if newest is None:
        return None
    try:
        manifest = Manifest.read(lake.uri(INDEXES, newest["build_id"]))
        verify_file(lake.fs, lake.path(INDEXES, newest["build_id"], TRAINED_FILE), manifest.training.sha256)
    except BuildIntegrityError:
        return None
    return manifest


def _sample(rows: DataFrame, key: IndexKey, vectors: int) -> np.ndarray:
    """(vectors, dimension) float32, chosen by the item ids, so that the same vectors always give the same index."""
    millionths = min(1_000_000, 1 + 1_000_000 * key.training_vectors // vectors)
    sampled = F.pmod(F.xxhash64("item_id", F.lit("train")), F.lit(1_000_000)) < millionths
    sample = vectors_of(rows.where(sampled).orderBy("item_id").select("embedding").toArrow())
    if len(sample) < key.lists:
        raise JobError(
            f"--index-key {key.text} needs {key.lists:,} vectors to train on, there are {len(sample):,}: "
            "name fewer lists, or leave the choice to the job"
        )
    return sample


def train(sample: np.ndarray, key: IndexKey) -> np.ndarray:
    """An empty trained index, as `faiss.serialize_index` gives it.

    Args:
        sample: (vectors, dimension) float32, as many vectors as lists at least.
        key: The kind of index.
    """
    index = faiss.index_factory(sample.shape[1], key.text, faiss.METRIC_INNER_PRODUCT)
    index.train(sample)
    if graph := graph_of_centroids(index):
        graph.hnsw.efSearch = LEAST_GRAPH_EFFORT  # vectors are added by it; with FAISS' own many miss their list
    return faiss.serialize_index(index)
