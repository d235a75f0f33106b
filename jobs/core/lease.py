"""One writer at a time: a lease in the lake, so that a run does not meet another, or the orphan of its own first try.

A holder's file is `leases/<name>.<number>.json`; the highest number holds.  A file is created exclusively, so of two
that try at once one wins.  Its holder renews it as long as it lives; a lease that was not renewed is taken over.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from fsspec import AbstractFileSystem

from jobs.core.errors import JobError

if TYPE_CHECKING:
    from jobs.core.job import JobRun

LEASES = "leases"
# How the name of a lease begins that stands for an orchestrator's try of a task.
TRY = "try-"
# Seconds between two signs of life, and without any until a holder counts as dead.
_RENEWED_EVERY = 10.0
_DEAD_AFTER = 60.0
# Seconds that a process which was killed may take to be gone.
_GONE_AFTER = 30.0
# Tries to read a file that is being written.
_READS = 20
# S3's error code of a request with a condition that met another one.
_CONFLICT = "ConditionalRequestConflict"
_DIGITS = 8
_ANY_NUMBER = "[0-9]" * _DIGITS
_SPARK_SUBMIT = "org.apache.spark.deploy.SparkSubmit"


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: a process, for a run.

    Attributes:
        space: What process numbers mean: on Linux a namespace, so that containers of one host are told apart.
        started: When the process began, for its number will be used again.
        alive: When it last said that it lives.  Both in seconds since 1970.
    """

    run_id: str
    job: str
    host: str
    space: str
    process: int
    started: float
    alive: float

    @classmethod
    def of_this_process(cls, job: JobRun) -> Holder:
        """This process, for its run."""
        process = psutil.Process()
        where = (socket.gethostname(), _process_space())
        return cls(job.run_id, job.name, *where, process.pid, process.create_time(), time.time())

    @property
    def is_gone(self) -> bool:
        """Whether it ran beside this process and does no more."""
        if not self._is_of_this_machine:
            return False
        try:
            process = psutil.Process(self.process)
            return _has_ended(process) or abs(process.create_time() - self.started) > 1
        except psutil.NoSuchProcess:
            return True

    @property
    def _is_of_this_machine(self) -> bool:
        return (self.host, self.space) == (socket.gethostname(), _process_space())

    def is_earlier_try_of(self, other: Holder) -> bool:
        """Whether it ran here for the same job of the same run: whoever started `other` had lost sight of it."""
        is_same = (self.run_id, self.job) == (other.run_id, other.job)
        return is_same and self._is_of_this_machine and self.process != other.process

    def kill(self) -> None:
        """End its process, with the JVM that it has started or was started by and all their workers.

        Raises:
            psutil.Error: This user may not end them.
        """
        process = psutil.Process(self.process)
        parent = process.parent()
        root = parent if parent is not None and _SPARK_SUBMIT in parent.cmdline() else process
        family = [root, *root.children(recursive=True)]
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        deadline = time.monotonic() + _GONE_AFTER
        while not all(map(_has_ended, family)) and time.monotonic() < deadline:
            time.sleep(0.05)

    @property
    def silent_for(self) -> float:
        """Seconds since its last sign of life."""
        return time.time() - self.alive

    def __str__(self) -> str:
        return f"run {self.run_id} ({self.job}, process {self.process} on {self.host})"


class Lease:
    """A lease that this process holds."""

    def __init__(self, job: JobRun, name: str, number: int, holder: Holder) -> None:
        self._fs, self._path = job.lake.fs, job.lake.path(LEASES, name)
        self._name, self._number, self._holder = name, number, holder

    def check(self) -> None:
        """Make sure that the lease was not lost, before something that only its holder may do.

        Raises:
            JobError: Another run took it, since this one gave no sign of life for too long.
        """
        number, holder = _newest(self._fs, self._path)
        if number != self._number:
            raise JobError(
                f"{self._name}: {holder or 'another run'} has taken over, since this one gave no sign of life for "
                f"{_DEAD_AFTER:.0f} s. It changed no table; what it staged will be used."
            )

    def renew(self) -> None:
        """Give a sign of life, unless the lease was lost."""
        file = _file(self._path, self._number)
        if self._fs.exists(file):
            self._fs.pipe_file(file, _as_json(replace(self._holder, alive=time.time())))

    def release(self) -> None:
        """Give the lease back."""
        file = _file(self._path, self._number)
        if self._fs.exists(file):
            self._fs.rm(file)


@contextmanager
def held_lease(job: JobRun, name: str, *, wait: bool = False) -> Iterator[Lease]:
    """Hold the lease of that name while the block runs.

    A holder that is known to be gone, or was silent for a minute, is succeeded; one that was silent for a while is
    waited for until that minute is over.  One that is this machine's earlier try of the same run is killed: jobs end
    well after that, and two tries at once would do everything twice.

    Args:
        job: The run.
        name: What one run at a time may do.
        wait: Wait until who holds it has given it back, however long that takes.

    Raises:
        JobError: Another run holds it and is alive, and this one does not wait.
    """
    lease = _acquire(job, name, wait=wait)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEWED_EVERY):
            # A store that hiccups is asked again; a lease that could not be renewed for long is lost, as `check` finds.
            with suppress(OSError):
                lease.renew()

    thread = threading.Thread(target=renew, name=f"lease {name}", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        thread.join()
        lease.release()


def _acquire(job: JobRun, name: str, *, wait: bool) -> Lease:
    fs, path = job.lake.fs, job.lake.path(LEASES, name)
    fs.makedirs(job.lake.path(LEASES), exist_ok=True)
    mine = Holder.of_this_process(job)
    awaited: set[str] = set()
    while True:
        number, holder = _newest(fs, path)
        if holder is not None and not holder.is_gone and holder.is_earlier_try_of(mine):
            with suppress(psutil.Error):
                holder.kill()
        if holder is not None and not holder.is_gone and holder.silent_for < _DEAD_AFTER:
            if wait and holder.run_id not in awaited:
                awaited.add(holder.run_id)
                job.note(f"{name}: waits for {holder}")
            if not wait and holder.silent_for < 2 * _RENEWED_EVERY:
                raise JobError(
                    f"{name}: {holder} is at work (last sign of life {max(0.0, holder.silent_for):.0f} s ago). "
                    "Wait until it has ended, or end it; this run has changed nothing."
                )
            time.sleep(1)
            continue
        if not _create(fs, _file(path, number + 1), _as_json(replace(mine, alive=time.time()))):
            continue
        if holder is not None:
            job.note(f"{name}: {holder} is gone; this run goes on in its place")
        if fs.exists(_file(path, number)):
            fs.rm(_file(path, number))
        return Lease(job, name, number + 1, mine)


def _create(fs: AbstractFileSystem, file: str, content: bytes) -> bool:
    """Create a file that nobody else has created: of several that try at once one does.

    In an object store that is a request with a condition.  One whose answer was lost is sent again and meets what it
    wrote itself; one that came at the very moment of another may be told of a conflict instead of a file.
    """
    try:
        fs.pipe_file(file, content, mode="create")
    except FileExistsError:
        with suppress(FileNotFoundError):  # given back a moment ago
            return fs.cat_file(file) == content
        return False
    except OSError as error:
        if _CONFLICT in str(error.__cause__):
            return False
        raise
    return True


def _newest(fs: AbstractFileSystem, path: str) -> tuple[int, Holder | None]:
    """The lease's highest number and who it stands for; 0 without any, None where nothing can be read of it."""
    numbers = [int(file.split(".")[-2]) for file in fs.glob(f"{path}.{_ANY_NUMBER}.json")]
    if not numbers:
        return 0, None
    number = max(numbers)
    for _ in range(_READS):
        try:
            return number, Holder(**json.loads(fs.cat_file(_file(path, number))))
        except FileNotFoundError:  # given back a moment ago
            break
        except ValueError:  # being written, or its writer died over it
            time.sleep(0.05)
    return number, None


def _has_ended(process: psutil.Process) -> bool:
    """Also where nobody asks what became of it, as in a container without an init process."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _process_space() -> str:
    space = Path("/proc/self/ns/pid")
    return str(space.readlink()) if space.is_symlink() else ""


def _file(path: str, number: int) -> str:
    return f"{path}.{number:0{_DIGITS}d}.json"


def _as_json(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()
