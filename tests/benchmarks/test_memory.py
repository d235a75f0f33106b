"""The watched memory is that of Python workers, and of nothing else."""

import numpy as np

from benchmarks.memory import watched


def test_what_a_python_worker_takes_is_seen_and_what_the_driver_takes_is_not(spark):
    def take(batches):
        ballast = np.ones(300 << 17)  # 300 MiB, touched
        for batch in batches:
            yield batch.assign(id=batch["id"] + int(ballast[-1]))

    rows = spark.range(2, numPartitions=1)
    with watched() as before:
        rows.mapInPandas(lambda batches: batches, "id long").count()
    driver = np.ones(600 << 17)
    with watched() as peak:
        rows.mapInPandas(take, "id long").count()
    assert peak.bytes > (300 << 20)
    assert peak.bytes < (600 << 20) < driver.nbytes + before.bytes
