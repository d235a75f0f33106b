"""Engines embed what the model embeds, and a share is of what further products took."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.engines import bare_loop
from benchmarks.engines.products import open_encoder
from benchmarks.lakes import repeated
from benchmarks.throughput import BARE_LOOP, JOB, told
from tests.photos import jpeg


def test_the_bare_loop_gives_every_product_the_models_vector(model_folder, tmp_path):
    titles = [f"red dress {number}" for number in range(300)]
    photos = [jpeg(("red", "blue")[number % 2]) if number % 3 else None for number in range(300)]
    ids = [str(number) for number in range(300)]
    products = pa.table({"item_id": ids, "title": titles, "photo": pa.array(photos, pa.binary())})
    pq.write_table(products, tmp_path / "products.parquet", row_group_size=100)
    bare_loop.embed_products(str(model_folder), tmp_path / "products.parquet", tmp_path, workers=2)
    rows = pq.read_table(tmp_path / "vectors.parquet").to_pydict()
    came = dict(zip(rows["item_id"], rows["embedding"], strict=True))
    encoder = open_encoder(model_folder, threads=1)
    expected = encoder.embed_items(encoder.prepare_items(titles, photos)).embedding
    np.testing.assert_allclose([came[item] for item in ids], expected, atol=1e-5)


def test_a_share_compares_what_further_products_took_round_by_round():
    timed = {JOB: [[20.0, 40.0], [30.0, 55.0]], BARE_LOOP: [[1.0, 19.0], [1.0, 21.0]]}
    table = told(timed, (1_000, 41_000)).splitlines()
    assert table[2] == "| embedding items | 25.0 | 47.5 | 1,800 | 0.85 | 0.80 to 0.90 |"
    assert table[3].endswith("| 1.00 | 1.00 to 1.00 |")


def test_a_catalog_that_is_repeated_has_every_id_once():
    catalog = pa.table({"item_id": ["a", "b", "c"], "title": ["x", "y", "z"]})
    rows = repeated(catalog, 7).to_pydict()
    assert rows["item_id"] == ["a", "b", "c", "a-1", "b-1", "c-1", "a-2"]
    assert rows["title"] == ["x", "y", "z", "x", "y", "z", "x"]
