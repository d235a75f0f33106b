"""Ray Data's `map_batches`, an actor a core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import ray

from benchmarks.engines.products import BATCH_SIZE, CORES, embed, open_encoder, time_engine


class Embed:
    """The actor: a model, kept open."""

    def __init__(self, model: str) -> None:
        self._encoder = open_encoder(model, threads=1)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Replace what the model reads by what it makes of it."""
        vectors = embed(self._encoder, batch["title"].tolist(), batch["photo"].tolist())
        return {"item_id": batch["item_id"], "embedding": vectors}


def embed_products(model: str, file: Path, output: Path) -> None:
    """Embed a file."""
    # Of one block, as one file is by default, one actor would have all the work.
    products = ray.data.read_parquet(str(file), override_num_blocks=4 * CORES)
    actors = ray.data.ActorPoolStrategy(size=CORES)
    vectors = products.map_batches(Embed, fn_constructor_args=(model,), batch_size=BATCH_SIZE, compute=actors)
    vectors.write_parquet(str(output))


if __name__ == "__main__":
    # Each actor holds a CPU of those that Ray counts for as long as it lives; reading and writing need some too.
    ray.init(num_cpus=2 * CORES, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    time_engine(embed_products)
