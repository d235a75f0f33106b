"""Where things lie in a checkout, and the environment in which its Spark processes run.  Standard library only."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPARK_VENV = ROOT / ".venv"
AIRFLOW_VENV = ROOT / ".venv-airflow"
SPARK_PROPERTIES = ROOT / "conf" / "spark-defaults.conf"
SPARK_ARCHIVE = SPARK_VENV / "spark.jsa"


def log_dir() -> Path:
    """Folder of the log files (MAKE_LOG_DIR, default logs), created when absent."""
    folder = ROOT / os.environ.get("MAKE_LOG_DIR", "logs")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def spark_home() -> Path:
    """The pyspark package of the Spark environment."""
    return next(SPARK_VENV.glob("lib/python3*/site-packages/pyspark"))


def spark_environment() -> dict[str, str]:
    """This process's environment, with what spark-submit and plain Python need to start Spark from the checkout."""
    return {
        **os.environ,
        "PATH": f"{SPARK_VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(ROOT),
        "SPARK_HOME": str(spark_home()),
        "PYSPARK_PYTHON": str(SPARK_VENV / "bin" / "python"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "MAKE_SPARK_PROPERTIES": str(SPARK_PROPERTIES),
        "MAKE_LOG_DIR": str(log_dir()),
    }
