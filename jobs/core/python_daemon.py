"""Spark's daemon that Python workers are forked from, without the archives that Spark puts on their path.

Python lists every archive on its path anew before every task, for Spark asks it to look for new files.  Spark puts
three there: its own Python files, Py4J, and the JAR of its core, 6,500 entries, read once for every folder in use.
That takes a tenth of a second a task; where Spark is the installed package, they hold nothing that is not installed.

The setting `spark.python.daemon.module` names this module.
"""

import gc
import importlib
import os
import sys
from pathlib import Path

_ARCHIVES = (".zip", ".jar")


def drop_archives() -> None:
    """Take Spark's archives off this process's path; code that a job ships in archives of its own stays there.

    Where Spark is no installed package they are what `pyspark` is imported from, and stay.
    """
    home = os.environ.get("SPARK_HOME")
    if home is None or not Path(home).parent.joinpath("py4j").is_dir():
        return
    sys.path[:] = [entry for entry in sys.path if not entry.endswith(_ARCHIVES) or not Path(entry).is_relative_to(home)]
    sys.path_importer_cache.clear()


def serve(*modules: str) -> None:
    """Fork workers until Spark ends this process.

    Args:
        modules: What workers find imported when they are forked.
    """
    drop_archives()
    daemon = importlib.import_module("pyspark.daemon")
    for module in modules:
        importlib.import_module(module)
    # Workers collect garbage after every task; what was imported here need not be gone through each time.
    gc.collect()
    gc.freeze()
    daemon.manager()


if __name__ == "__main__":
    serve()
