"""Create the two environments, and make Spark start fast in the first.  Run by `make setup`, standard library only.

Each step leaves a stamp with the digest of what it was made from.  A step whose stamp still fits is not run again, so a
second set-up does nothing, one that was cut off goes on where it stopped, and a changed requirement file is installed.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from scripts.environment import (
    AIRFLOW_VENV,
    ROOT,
    SPARK_ARCHIVE,
    SPARK_PROPERTIES,
    SPARK_VENV,
    log_dir,
    spark_environment,
)

JAVA_VERSION = 17
JAVA_PACKAGE = f"openjdk-{JAVA_VERSION}-jre-headless"
REQUIREMENTS = ROOT / "requirements"
LOG = log_dir() / "setup.log"


class SetupError(Exception):
    """Set-up cannot go on; the message is one line that says what to do."""


def main() -> None:
    """Run every step whose inputs have changed since it last ran to its end."""
    python = f"{ROOT} {Path(sys.executable).resolve()} {platform.python_version()}"
    spark, tools, airflow = _text("spark"), _text("spark-dev"), _text("airflow")
    run_step(SPARK_VENV, "venv", [python], lambda: create_venv(SPARK_VENV))
    run_step(SPARK_VENV, "java", [_java_identity()], check_java)
    run_step(SPARK_VENV, "installer", [python, _text("setup")], install_uv)
    run_step(SPARK_VENV, "packages", [python, spark, tools], lambda: install(SPARK_VENV, "spark", "spark-dev"))
    run_step(SPARK_VENV, "delta", [python, spark], lambda: _run_module("scripts.spark_jars", "delta"))
    settings = [file.read_text() for file in (SPARK_PROPERTIES, SPARK_PROPERTIES.with_name("log4j2.properties"))]
    archived = [_java_identity(), *settings, _listing(spark_jars())]
    run_step(SPARK_VENV, "archive", archived, archive_classes)
    run_step(AIRFLOW_VENV, "venv", [python], lambda: create_venv(AIRFLOW_VENV))
    run_step(AIRFLOW_VENV, "packages", [python, airflow], lambda: install(AIRFLOW_VENV, "airflow"))


def run_step(venv: Path, name: str, inputs: list[str], action: Callable[[], str]) -> None:
    """Run the action unless its stamp fits the inputs; print a line with its seconds and what it did."""
    digest = hashlib.sha256("\0".join(inputs).encode()).hexdigest()
    stamp = venv / "stamps" / name
    if stamp.is_file() and stamp.read_text() == digest:
        return
    start = time.monotonic()
    done = action()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(digest)
    print(f"set-up: {done:<64} {time.monotonic() - start:6.1f} s", flush=True)


def check_java() -> str:
    """See that `java` is the version that Spark runs on; on Debian and Ubuntu, as root, install it.

    Raises:
        SetupError: It is missing or another version, and cannot be installed from here.
    """
    version = _java_version()
    if version != JAVA_VERSION and shutil.which("apt-get") and os.geteuid() == 0:
        noninteractive = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run_logged(["apt-get", "update"], env=noninteractive)
        run_logged(["apt-get", "install", "--yes", "--no-install-recommends", JAVA_PACKAGE], env=noninteractive)
        version = _java_version()
    if version != JAVA_VERSION:
        found = "none was found" if version is None else f"{_java()} is Java {version}"
        raise SetupError(
            f"Java {JAVA_VERSION} is needed, {found}; install it (Debian, Ubuntu: apt-get install {JAVA_PACKAGE}) "
            "and put it first on PATH or name it in JAVA_HOME."
        )
    return f"Java {JAVA_VERSION} is there"


def _java() -> Path | None:
    if home := os.environ.get("JAVA_HOME"):
        return Path(home) / "bin" / "java"
    found = shutil.which("java")
    return Path(found) if found else None


def _java_version() -> int | None:
    """Major version, or None without a Java that runs."""
    java = _java()
    try:
        answer = subprocess.run([java or "java", "-version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    return int(match[1]) if match else None


def _java_identity() -> str:
    """Changes when another Java takes the place of the one that was checked; costs no process."""
    java = _java()
    if java is None or not java.exists():
        return "none"
    return f"{java.resolve()} {java.stat().st_mtime_ns}"


def create_venv(venv: Path) -> str:
    """Create the environment, or adopt one that works already and has the same Python."""
    python = venv / "bin" / "python"
    probe = f"import pip, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    adoptable = not (venv / "stamps" / "venv").exists() and python.exists()
    if adoptable and subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode == 0:
        return f"{venv.name}: took over"
    # This process may run from the very environment that is made anew.
    base = Path(sys.executable).resolve()
    run_logged([base, "-m", "venv", "--clear", venv])
    return f"{venv.name}: Python {platform.python_version()}"


def install_uv() -> str:
    """Install the installer itself, with the pip that every environment brings."""
    pip = [SPARK_VENV / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check"]
    run_logged([*pip, "--requirement", REQUIREMENTS / "setup.txt"])
    return f"{SPARK_VENV.name}: uv"


def install(venv: Path, *names: str) -> str:
    """Install the pinned requirement files of those names into the environment."""
    packages = [line for name in names for line in _text(name).splitlines() if re.match(r"\w", line)]
    print(f"set-up: installing {len(packages)} packages into {venv.name} ...", flush=True)
    files = [argument for name in names for argument in ("--requirement", REQUIREMENTS / f"{name}.txt")]
    # The platform's certificates: uv's own list does not know a company's proxy.
    uv = [SPARK_VENV / "bin" / "uv", "--system-certs", "pip", "install", "--python", venv / "bin" / "python"]
    # Where Python may not write bytecode, each job, being a process, would compile torch and transformers anew.
    run_logged([*uv, *(["--compile-bytecode"] if sys.dont_write_bytecode else []), *files])
    return f"{venv.name}: {', '.join(f'requirements/{name}.txt' for name in names)}"


def archive_classes() -> str:
    """Archive the classes that a Delta session loads, so that each later JVM maps them instead of loading them."""
    _run_module("scripts.warm_up")
    return f"{SPARK_ARCHIVE.relative_to(ROOT)}: {SPARK_ARCHIVE.stat().st_size / 1e6:.0f} MB of loaded classes"


def spark_jars() -> Path:
    """The folder of Spark's JARs."""
    return next(SPARK_VENV.glob("lib/python3*/site-packages/pyspark/jars"))


def _run_module(module: str, *arguments: str) -> str:
    command = [SPARK_VENV / "bin" / "python", "-m", module, *arguments]
    return run_logged(command, env=spark_environment()).strip()


def run_logged(command: list[str | Path], *, env: dict[str, str] | None = None) -> str:
    """Run a command with its chatter in the log file, and return what it wrote to standard output.

    Raises:
        SetupError: It failed; with its last line.
    """
    words = [str(word) for word in command]
    with LOG.open("a+", encoding="utf-8") as log:
        log.write(f"\n$ {' '.join(words)}\n")
        log.flush()
        start = log.tell()
        try:
            answer = subprocess.run(words, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        except OSError as error:
            raise SetupError(f"{words[0]} cannot be started: {error}") from error
        log.seek(start)
        errors = log.read()
        log.write(answer.stdout)
    if answer.returncode != 0:
        said = [line for line in (errors + answer.stdout).splitlines() if line.strip()] or ["it said nothing"]
        raise SetupError(f"{' '.join(words)} failed: {said[-1].strip()} ({LOG} has all). Mend it and run make again.")
    return answer.stdout


def _text(name: str) -> str:
    return (REQUIREMENTS / f"{name}.txt").read_text()


def _listing(folder: Path) -> str:
    """Names, sizes and times of a folder's files: what Java compares before it uses an archive."""
    files = [(file.name, file.stat()) for file in sorted(folder.iterdir())]
    return "\n".join(f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files)


if __name__ == "__main__":
    try:
        main()
    except SetupError as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("set-up: stopped; the next make goes on from here.")
