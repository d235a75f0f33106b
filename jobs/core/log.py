"""A job's log: a JSON object a line, each with the run and the job that it is of, so that one run is found among all.

Spark's has the same fields (conf/log4j2.properties).
"""

import logging
import os
import sys
import threading

from pythonjsonlogger.json import JsonFormatter

_log = logging.getLogger(__name__)
_FIELDS = {
    "levelname": "level",
    "name": "logger",
    "message": "message",
    "exc_info": "error",
    "process": "pid",
    "threadName": "thread",
}


def log_json(*, run_id: str, job: str) -> None:
    """Write what this process logs, warns of and dies of to its standard error, as JSON.

    Args:
        run_id: The run, as in `job_runs`.
        job: Domain and job, as on the command line.
    """
    os.environ |= {"MAKE_RUN_ID": run_id, "MAKE_JOB": job}  # for Spark's, from its first line on
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter(
            list(_FIELDS), rename_fields=_FIELDS, static_fields={"run_id": run_id, "job": job}, timestamp="time"
        )
    )
    logging.basicConfig(handlers=[handler])
    logging.getLogger("jobs").setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = lambda *error: _log.critical("%s", error[1], exc_info=error)
    threading.excepthook = lambda died: _log.error(
        "%s", died.exc_value, exc_info=(died.exc_type, died.exc_value, died.exc_traceback)
    )
