"""Run a short Delta session, and archive the classes that it loaded (Java's class-data sharing)."""

import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.environment import ROOT, SPARK_ARCHIVE, SPARK_PROPERTIES


def exercise(folder: str) -> None:
    """Create, merge, replace and read a Delta table, and pass a row through Python: what every job does."""
    import pandas as pd
    from delta import DeltaTable
    from pyspark.sql import functions as F

    from jobs.core.session import open_session

    spark = open_session("warm up")
    spark.sql(f"CREATE TABLE delta.`{folder}/t` (k STRING NOT NULL, v ARRAY<FLOAT>, d DATE) USING delta")
    rows = spark.range(10).selectExpr("string(id) AS k", "array(float(id)) AS v", "DATE'2026-11-01' AS d")
    table = DeltaTable.forPath(spark, f"{folder}/t")
    for source in (rows, rows.withColumn("v", F.array(F.lit(1.0).cast("float")))):
        merge = table.alias("t").merge(source.alias("s"), "t.k = s.k").whenMatchedUpdateAll("t.v != s.v")
        merge.whenNotMatchedInsertAll().execute()
    rows.write.format("delta").mode("overwrite").option("replaceWhere", "d = '2026-11-01'").save(f"{folder}/t")
    rows.write.parquet(f"{folder}/p")
    digests = spark.read.parquet(f"{folder}/p").groupBy("d").agg(F.max(F.xxhash64("k")), F.count("*"))
    digests.join(table.toDF(), "d").orderBy("k").toPandas()
    spark.createDataFrame(pd.DataFrame({"a": [1]})).mapInPandas(lambda frames: frames, "a LONG").collect()
    spark.stop()


def main() -> None:
    """Run this file under a JVM that writes the archive when it ends, and put the archive in place when it is whole."""
    unfinished = SPARK_ARCHIVE.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        properties = Path(folder) / "spark-defaults.conf"
        use, make = f"-XX:SharedArchiveFile={SPARK_ARCHIVE.relative_to(ROOT)}", f"-XX:ArchiveClassesAtExit={unfinished}"
        properties.write_text(SPARK_PROPERTIES.read_text().replace(use, make))
        # spark-submit, not plain Python: it ends after its JVM has.
        submit = subprocess.run(["spark-submit", "--properties-file", properties, __file__, folder], check=False)
    if submit.returncode != 0:
        sys.exit(submit.returncode)
    unfinished.rename(SPARK_ARCHIVE)


if __name__ == "__main__":
    if sys.argv[1:]:
        exercise(sys.argv[1])
    else:
        main()
