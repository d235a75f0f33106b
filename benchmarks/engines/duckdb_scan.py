"""DuckDB: the ten rows of Parquet files whose vectors have the highest inner product with a given one."""

from __future__ import annotations

import json
import sys
import time

import duckdb

QUERY = """
SELECT item_id FROM read_parquet($files)
ORDER BY list_inner_product(embedding, $vector::FLOAT[]) DESC LIMIT 10
"""

if __name__ == "__main__":
    work = json.loads(sys.stdin.read())
    parameters = {"files": work["files"], "vector": work["vector"]}
    database = duckdb.connect()
    database.execute(QUERY, parameters).fetchall()  # warms up, as the others are
    began = time.perf_counter()
    item_ids = [item_id for (item_id,) in database.execute(QUERY, parameters).fetchall()]
    print(json.dumps({"item_ids": item_ids, "seconds": time.perf_counter() - began}))
