"""Ways to embed a Parquet file of products with one model, to be compared: a file each, run in a process of its own."""
