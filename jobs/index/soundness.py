"""Whether a build is what it says: its files, which vector is whose, the vectors' norms, and what model made them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs.core.lake import Lake
from jobs.index.gates import Gate, drift, worst_error_gate
from jobs.index.manifest import BuildIntegrityError
from jobs.index.searcher import Searcher
from schemas import ITEM_IMAGES

if TYPE_CHECKING:
    from models.encoder import Encoder

NO_CATEGORY = "no category"


def open_sound(folder: str, build: Row) -> tuple[Searcher | None, list[Gate]]:
    """Open a build and prove that its vectors pair up with its items.

    Args:
        folder: Where it lies, a path or URL.
        build: Its row in `index_builds`.

    Returns:
        The build, and the gates `integrity` and `pairing`.  None in its place, and no gate after the one that it
        missed, when it is not sound: whatever else were measured of it would be another build's figure.
    """
    try:
        searcher = Searcher.open(folder)
        _refuse_another(searcher, folder, build)
    except BuildIntegrityError as error:
        return None, [Gate.of("integrity", 0, 1, str(error))]
    except RuntimeError as error:  # FAISS's own, of a file that is the one that was written
        return None, [Gate.of("integrity", 0, 1, f"{folder}: FAISS cannot read a shard: {error}")]
    gates = [
        Gate.of(
            "integrity", 1, 1, f"manifest.json and {len(searcher.manifest.digests):,} files are those that were written"
        )
    ]
    try:
        searcher.verify_pairing()
    except BuildIntegrityError as error:
        return None, [*gates, Gate.of("pairing", 0, 1, str(error))]
    detail = f"sampled vectors find themselves in each of {len(searcher.manifest.shards):,} shards"
    return searcher, [*gates, Gate.of("pairing", 1, 1, detail)]


def _refuse_another(searcher: Searcher, folder: str, build: Row) -> None:
    manifest = searcher.manifest
    expected = (build["build_id"], build["model_version"], build["items"])
    came = (manifest.build_id, manifest.model_version, len(searcher))
    if came != expected:
        told = ["{} of {} with {:,} items".format(*values) for values in (expected, came)]
        raise BuildIntegrityError(
            f"{folder}/manifest.json: expected {told[0]}, as index_builds has it, got {told[1]}: the folder is another "
            "build's. Build again or publish another"
        )


def norm_gate(searcher: Searcher, bound: float) -> Gate:
    """Every vector's norm is 1; that of a vector which is not finite is no number, or infinite."""
    norms = np.concatenate([np.linalg.norm(vectors, axis=1) for _, vectors in searcher.iterate_vectors()])
    return worst_error_gate(
        "norms",
        np.abs(norms - 1),
        bound,
        over="vectors, from 1",
        item_at=lambda row: item_name(searcher, row),
    )


def agreement_gate(lake: Lake, searcher: Searcher, encoder: Encoder, *, sample: int, bound: float) -> Gate:
    """Sampled vectors are those that the build's own model makes of title and photo.

    Args:
        lake: Where the photos are.
        searcher: The build.
        encoder: Its model.
        sample: Items to embed anew.
        bound: Most 1 - cosine of a stored vector and the one made anew.
    """
    rows = sampled_rows(len(searcher), sample)
    items = searcher.items(["title", "image_sha256", "image_status"]).take(rows).to_pylist()
    # A photo that could not be read had no part in the vector.
    shown = [item["image_sha256"] if item["image_status"] == "ok" else None for item in items]
    photos = _photos(lake, set(shown) - {None})
    prepared = encoder.prepare_items([item["title"] for item in items], [photos.get(digest) for digest in shown])
    return worst_error_gate(
        "model_agreement",
        drift(searcher.vectors(rows), encoder.embed_items(prepared).embedding),
        bound,
        over="sampled items, embedded anew",
        item_at=lambda place: item_name(searcher, rows[place]),
    )


def sampled_rows(rows: int, sample: int) -> np.ndarray:
    """One row from each of as many equal stretches of a build, and so from every shard in proportion; sorted."""
    edges = np.linspace(0, rows, num=min(rows, sample) + 1).astype(np.int64)
    return np.random.default_rng(0).integers(edges[:-1], edges[1:])


def _photos(lake: Lake, digests: Collection[str]) -> dict[str, bytes]:
    """The bytes of photos by digest; the table is read only for some."""
    if not digests:
        return {}
    wanted = F.col("content_sha256").isin(*sorted(digests))
    return dict(lake.read(ITEM_IMAGES).where(wanted).select("content_sha256", "content").collect())


def item_name(searcher: Searcher, row: int) -> str:
    """An item of a build as a gate's detail names it."""
    (item,) = searcher.items(["item_id", "category"]).slice(row, 1).to_pylist()
    return f"{item['item_id']} of {item['category'] or NO_CATEGORY}"
