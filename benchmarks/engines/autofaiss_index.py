"""autofaiss as it comes: an index of a folder of .npy files, by inner product; its choice of key and of settings."""

from __future__ import annotations

import sys

from autofaiss import build_index

if __name__ == "__main__":
    embeddings, index_file, infos_file = sys.argv[1:]
    build_index(embeddings, index_path=index_file, index_infos_path=infos_file, metric_type="ip")
