"""The Python daemon of `make sql-server`, with what table functions need imported before workers are forked.

Spark ends workers that were idle for a minute.  A new one forked from here answers at once; one that has to import
torch and FAISS answers after seconds.  Named by the setting `spark.python.daemon.module`.
"""

from jobs.core.python_daemon import serve

if __name__ == "__main__":
    serve("jobs.sql.search_functions", "jobs.sql.drift_function", "jobs.embedding.inference", "models.encoder")
