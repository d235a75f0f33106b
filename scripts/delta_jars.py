"""Put Delta's JARs beside Spark's own, once, so that no session has to resolve them."""

import os
import shutil
from importlib import metadata
from pathlib import Path

import pyspark
from pyspark.java_gateway import launch_gateway

JARS = Path(pyspark.__file__).parent / "jars"


def resolve(coordinate: str) -> list[Path]:
    """Let Spark's own resolver download a package and all it needs; no session is started."""
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--packages {coordinate} pyspark-shell"
    gateway = launch_gateway()
    jars = gateway.jvm.System.getProperty("spark.jars")
    gateway.shutdown()
    return [Path(jar.removeprefix("file:")) for jar in jars.split(",")]


def main() -> None:
    """Copy what pyspark does not hold already."""
    coordinate = f"io.delta:delta-spark_2.13:{metadata.version('delta-spark')}"
    for jar in resolve(coordinate):
        artifact = jar.name.partition("_")[2]  # the resolver names its files group_artifact-version.jar
        if (JARS / artifact).exists() or (JARS / jar.name).exists():
            continue  # copied once more it would look new, and make the archive of loaded classes stale
        unfinished = JARS / f"{jar.name}.part"
        shutil.copyfile(jar, unfinished)
        unfinished.rename(JARS / jar.name)
    print(f"{coordinate} beside Spark's JARs")


if __name__ == "__main__":
    main()
