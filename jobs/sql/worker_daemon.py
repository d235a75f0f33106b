"""Spark's daemon that Python workers are forked from, with what table functions need imported before the fork.

Spark ends workers that were idle for a minute.  A new one forked from here answers at once; one that has to import
torch and FAISS answers after seconds.  Named by the setting `spark.python.daemon.module`.
"""

import gc
import importlib

import pyspark.daemon

for module in ("jobs.sql.search_functions", "jobs.sql.drift_function", "jobs.embedding.inference", "models.encoder"):
    importlib.import_module(module)

# Workers collect garbage after every task; what was imported here need not be gone through each time.
gc.collect()
gc.freeze()

if __name__ == "__main__":
    pyspark.daemon.manager()
