"""The watched memory is that of Python workers, and of all processes together, but for what does the watching."""

import subprocess
import sys

import numpy as np

from benchmarks.peaks import watched

# A child shares its parent's 200 MiB, and has 100 of its own.
PARENT_AND_CHILD = """
import os, time
shared = bytes(bytearray(b"x") * (200 << 20))
child = os.fork()
if not child:
    own = bytes(bytearray(b"x") * (100 << 20))
time.sleep(1)
if child:
    os.wait()
"""


def test_what_a_python_worker_takes_is_seen_and_what_the_driver_takes_is_not(spark):
    def take(batches):
        ballast = np.ones(300 << 17)  # 300 MiB, touched
        for batch in batches:
            yield batch.assign(id=batch["id"] + int(ballast[-1]))

    rows = spark.range(2, numPartitions=1)
    with watched() as before:
        rows.mapInPandas(lambda batches: batches, "id long").count()
    driver = np.ones(600 << 17)
    with watched() as peaks:
        rows.mapInPandas(take, "id long").count()
    assert peaks.worker_bytes > (300 << 20)
    assert peaks.worker_bytes < (600 << 20) < driver.nbytes + before.worker_bytes


def test_what_processes_share_counts_once():
    with watched() as before:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(1)"], check=True)
    with watched() as peaks:
        subprocess.run([sys.executable, "-c", PARENT_AND_CHILD], check=True)
    assert (300 << 20) < peaks.tree_bytes - before.tree_bytes < (450 << 20)
