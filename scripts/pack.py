"""Pack what a cluster needs of this project into dist/: its wheel, and an environment that has the wheel and its pins.

    dist/make_embeddings-<version>-py3-none-any.whl
    dist/environment.tar.gz    for `spark.archives`; docs/cluster.md says how both are submitted

The environment's Python is a link to this machine's: every node needs the same one at the same path.
"""

import shutil
import sys
import tarfile
from pathlib import Path

from scripts.environment import ROOT, SPARK_VENV
from scripts.set_up import REQUIREMENTS, SetupError, run_logged

DIST = ROOT / "dist"
ARCHIVE = "environment.tar.gz"
_UV = [SPARK_VENV / "bin" / "uv", "--system-certs"]
# Gigabytes of libraries hardly shrink further, however long one tries.
_COMPRESSION = 1


def build_wheel(folder: Path) -> Path:
    """The wheel, with the build tools that are pinned; returns its file."""
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # setuptools would pack what an earlier build left there
    python = ["--python", SPARK_VENV / "bin" / "python"]
    run_logged([*_UV, "build", "--wheel", "--no-build-isolation", *python, "--out-dir", folder, ROOT])
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_environment(folder: Path, wheel: Path, requirements: Path | None) -> None:
    """An environment that may be moved.

    Args:
        folder: Where it is made.
        wheel: The project's.
        requirements: Pinned packages; None: the wheel alone.
    """
    run_logged([*_UV, "venv", "--relocatable", "--clear", "--python", Path(sys.executable).resolve(), folder])
    install = [*_UV, "pip", "install", "--python", folder / "bin" / "python", "--no-deps"]
    pinned = ["--requirement", requirements] if requirements else []
    run_logged([*install, *pinned, wheel])


def archive(environment: Path, file: Path) -> None:
    """Pack an environment, its files at the root of the archive."""
    with tarfile.open(file, "w:gz", compresslevel=_COMPRESSION) as packed:
        for path in sorted(environment.iterdir()):
            packed.add(path, arcname=path.name)


def main() -> None:
    """Pack anew, whatever lies there."""
    shutil.rmtree(DIST, ignore_errors=True)
    wheel = build_wheel(DIST)
    environment = DIST / "environment"
    make_environment(environment, wheel, REQUIREMENTS / "spark.txt")
    archive(environment, DIST / ARCHIVE)
    shutil.rmtree(environment)
    for file in (wheel, DIST / ARCHIVE):
        print(f"{file.relative_to(ROOT)}   {file.stat().st_size / 1e6:,.1f} MB")


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        sys.exit(f"pack: {error}")
