"""Python workers import Spark from where it is installed, and not from archives that they list before every task."""

import sys
import zipfile
from pathlib import Path

import pyspark
from pyspark.sql.functions import udf


def test_workers_have_none_of_sparks_archives_on_their_path(spark):
    @udf("struct<spark string, archives array<string>>")
    def look(_):
        import pyspark

        return pyspark.__file__, [str(path) for path in sys.path_importer_cache if "pyspark" in path and ".zip" in path]

    seen = spark.range(1).select(look("id").alias("seen")).first().seen
    assert (Path(seen.spark), seen.archives) == (Path(pyspark.__file__), [])


def test_an_archive_that_a_job_ships_stays_on_the_path(spark, tmp_path):
    archive = tmp_path / "shipped.zip"
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("shipped_with_a_job.py", "ANSWER = 42\n")
    spark.sparkContext.addPyFile(str(archive))

    @udf("int")
    def answer(_):
        from shipped_with_a_job import ANSWER

        return ANSWER

    assert spark.range(1).select(answer("id").alias("answer")).first().answer == 42
