"""The MAKE model, its training and its use.  Nothing here imports pyspark: it runs on a GPU host or in a notebook."""
