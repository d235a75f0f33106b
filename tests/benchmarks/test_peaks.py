"""The watched memory is that of Python workers, and of all processes together, but for what does the watching."""

import subprocess
import sys
import time

import numpy as np

from benchmarks.peaks import watched
from scripts.environment import ROOT

# A child shares its parent's 200 MiB, and has 100 of its own.  It prints the peak, and what is there without the two.
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
# In a process that has no children of its own, as this one has: Spark's JVM grows and shrinks as it likes.
WATCHING = """
import subprocess, sys
from benchmarks.peaks import watched
for program in ("import time; time.sleep(1)", sys.argv[1]):
    with watched() as peaks:
        subprocess.run([sys.executable, "-c", program], check=True)
    print(peaks.tree_bytes)
"""


def test_what_a_python_worker_takes_is_seen_and_what_the_driver_takes_is_not(spark):
    def take(batches):
        ballast = np.ones(300 << 17)  # 300 MiB, touched
        time.sleep(1)
        for batch in batches:
            yield batch.assign(id=batch["id"] + int(ballast[-1]))

    driver = np.ones(1_000 << 17)
    with watched() as peaks:
        spark.range(2, numPartitions=1).mapInPandas(take, "id long").count()
    assert (300 << 20) < peaks.worker_bytes < driver.nbytes


def test_what_processes_share_counts_once():
    command = [sys.executable, "-c", WATCHING, PARENT_AND_CHILD]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    without, peak = (int(line) for line in told.split())
    assert (300 << 20) < peak - without < (450 << 20)
