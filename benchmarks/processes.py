"""A job in processes of its own, on this machine alone or on a standalone cluster of it, for whoever kills some."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from scripts.environment import ROOT, spark_environment

# What a process that has a session hands on to those that it starts, and would have them take for their own.
_OF_A_SESSION = ("PYSPARK_SUBMIT_ARGS", "PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET")

_DEADLINE_S = 300
_COMPILE_FAST = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


class JobProcess:
    """A job that runs; what it tells people is in `console`, what it logs in `logs`.

    Args:
        arguments: As after `python -m jobs`.
        folder: Where its logs go.
        conf_dir: A cluster's settings; None for the embedded default.
    """

    def __init__(self, arguments: list[str], folder: Path, conf_dir: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.console = folder / "console"
        environment = {
            **environment_of_processes(),
            "MAKE_LOG_DIR": str(folder / "logs"),
            "MAKE_CONSOLE": str(self.console),
        }
        if conf_dir is not None:
            environment["SPARK_CONF_DIR"] = str(conf_dir)
        command = [sys.executable, "-m", "jobs", *arguments]
        self._process = psutil.Popen(command, env=environment, cwd=ROOT, start_new_session=True)

    @property
    def pid(self) -> int:
        """The driver's process number."""
        return self._process.pid

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Wait until `reached`, which is asked again and again, for points of a run are short."""
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            asked = time.monotonic()
            if reached():
                return
            assert self._process.poll() is None, f"the job ended before it: {self.told}"
            assert time.monotonic() < deadline, f"the job never came to it: {self.told}"
            time.sleep(max(0.002, time.monotonic() - asked))  # leaves the job the better half of a core

    def end(self) -> int:
        """Wait for the job's end; returns its status."""
        return self._process.wait(_DEADLINE_S)

    def kill(self) -> None:
        """`kill -9` of the driver, and of nothing else: what it has started finds out for itself."""
        self._process.kill()
        self._process.wait()

    def suspend(self) -> None:
        """Hold the driver and all that it has started where they are."""
        for process in (self._process, *self._process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def python_workers(self) -> list[psutil.Process]:
        """The Python processes that tasks of this machine compute in: what the daemon has forked."""
        return python_workers(self._process)

    @property
    def told(self) -> str:
        """What the job said to people so far."""
        return self.console.read_text() if self.console.exists() else ""


def python_workers(ancestor: psutil.Process) -> list[psutil.Process]:
    """The processes below `ancestor` in which Spark runs Python code, once they are at work on a task."""
    found = []
    for process in ancestor.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            parent = process.parent()
            # One that has only just begun is not missed: Spark makes another.
            is_at_work = process.cpu_times().user > 0.1
            if is_at_work and parent is not None and _runs(parent, "python_daemon"):
                found.append(process)
    return found


def submitted_job(application: str = ".py") -> psutil.Process | None:
    """The JVM below this process in which a scheduler has submitted a job, and which started the job's Python.

    Args:
        application: How the name of the job's file ends.
    """
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            if "org.apache.spark.deploy.SparkSubmit" in words and any(word.endswith(application) for word in words):
                return process
    return None


class Cluster:
    """A standalone Spark cluster of 127.0.0.1: a master and two workers of one core each, in processes of their own.

    Args:
        folder: Where its settings, logs and executors' folders go.
        with_code: Whether executors have the checkout on their path.
    """

    def __init__(self, folder: Path, *, with_code: bool = True) -> None:
        self.folder, self._with_code = folder, with_code
        self.conf_dir = folder / "conf"
        self.master = f"spark://127.0.0.1:{free_port()}"
        self._processes: list[psutil.Popen] = []

    def start(self) -> None:
        """Start the master, then its workers."""
        self.conf_dir.mkdir(parents=True)
        environment = environment_of_processes()
        settings = {
            "spark.master": self.master,
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "1g",
            "spark.executor.memory": "1g",
            "spark.python.daemon.module": "jobs.core.python_daemon",
            "spark.ui.enabled": "false",
            # For tables of a few files on two cores: Spark's and Delta's own defaults mean hundreds of tiny tasks.
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
            "spark.databricks.delta.snapshotPartitions": "1",
            **dict.fromkeys(("spark.driver.extraJavaOptions", "spark.executor.extraJavaOptions"), _COMPILE_FAST),
        }
        if self._with_code:
            settings["spark.executorEnv.PYTHONPATH"] = str(ROOT)
        else:
            environment.pop("PYTHONPATH")
        lines = "".join(f"{name} {value}\n" for name, value in settings.items())
        (self.conf_dir / "spark-defaults.conf").write_text(lines)
        (self.conf_dir / "log4j2.properties").write_text((ROOT / "conf" / "log4j2.properties").read_text())
        port = self.master.rpartition(":")[2]
        self._start("master.Master", ["--host", "127.0.0.1", "--port", port, "--webui-port", "0"], environment)
        for number in range(2):
            where = ["--host", "127.0.0.1", "--webui-port", "0", "--cores", "1", "--memory", "1g"]
            where += ["--work-dir", str(self.folder / f"worker-{number}"), self.master]
            self._start("worker.Worker", where, environment)

    def _start(self, kind: str, arguments: list[str], environment: dict[str, str]) -> None:
        command = [f"{environment['SPARK_HOME']}/bin/spark-class", f"org.apache.spark.deploy.{kind}", *arguments]
        with (self.folder / f"{kind}-{len(self._processes)}.log").open("wb") as log:
            process = psutil.Popen(
                command,
                env={**environment, "SPARK_DAEMON_MEMORY": "256m", "MAKE_LOG_DIR": str(self.folder)},
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)

    def executors(self) -> list[psutil.Process]:
        """The JVMs that the workers have started for a job."""
        below = [child for process in self._processes for child in process.children(recursive=True)]
        return [process for process in below if _runs(process, "CoarseGrainedExecutorBackend")]

    def python_workers(self) -> list[psutil.Process]:
        """The Python processes below the executors."""
        return [worker for process in self._processes for worker in python_workers(process)]

    def stop(self) -> None:
        """End all of it."""
        for process in reversed(self._processes):
            below = process.children(recursive=True)
            for one in (process, *below):
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            process.wait()


@contextmanager
def standalone_cluster(folder: Path, *, with_code: bool = True) -> Iterator[Cluster]:
    """A cluster while the block runs."""
    cluster = Cluster(folder, with_code=with_code)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def environment_of_processes() -> dict[str, str]:
    """What a person's shell would have: nothing of the session that this process itself has open."""
    return {name: value for name, value in spark_environment().items() if name not in _OF_A_SESSION}


@contextmanager
def without_session_variables() -> Iterator[None]:
    """What is started in the block has the environment of a person's shell, whatever session this process has open."""
    held = {name: os.environ.pop(name) for name in _OF_A_SESSION if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(held)


def _runs(process: psutil.Process, name: str) -> bool:
    with suppress(psutil.NoSuchProcess):
        return any(name in word for word in process.cmdline())
    return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
