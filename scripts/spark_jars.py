"""Put JARs beside Spark's own, once, so that no session has to resolve them: `python -m scripts.spark_jars delta|s3`.

`delta` is Delta Lake, which every job needs; `s3` is Hadoop's client of S3, some 600 MB, for a lake at `s3a://`.
"""

import os
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pyspark
from pyspark.java_gateway import launch_gateway

JARS = Path(pyspark.__file__).parent / "jars"


def coordinate(name: str) -> str:
    """The Maven coordinate of what goes by that name, in the version that fits Spark."""
    if name == "delta":
        return f"io.delta:delta-spark_2.13:{metadata.version('delta-spark')}"
    # Hadoop's parts work with each other in one version only.
    (hadoop,) = JARS.glob("hadoop-client-api-*.jar")
    return f"org.apache.hadoop:hadoop-aws:{hadoop.stem.removeprefix('hadoop-client-api-')}"


def resolve(coordinate: str) -> list[Path]:
    """Let Spark's own resolver download a package and all it needs; no session is started."""
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--packages {coordinate} pyspark-shell"
    gateway = launch_gateway()
    jars = gateway.jvm.System.getProperty("spark.jars")
    gateway.shutdown()
    return [Path(jar.removeprefix("file:")) for jar in jars.split(",")]


def main(name: str) -> None:
    """Copy what pyspark does not hold already."""
    for jar in resolve(coordinate(name)):
        artifact = jar.name.partition("_")[2]  # the resolver names its files group_artifact-version.jar
        if (JARS / artifact).exists() or (JARS / jar.name).exists():
            continue  # copied once more it would look new, and make the archive of loaded classes stale
        unfinished = JARS / f"{jar.name}.part"
        shutil.copyfile(jar, unfinished)
        unfinished.rename(JARS / jar.name)
    print(f"{coordinate(name)} beside Spark's JARs")


if __name__ == "__main__":
    main(*sys.argv[1:])
