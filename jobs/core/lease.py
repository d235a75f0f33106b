"""One writer at a time: a lease in the lake, so that a run does not meet another, or the orphan of its own first try.

`leases/<name>/` holds a file a holder, numbered; the highest number holds.  A file is created exclusively, so of two
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

import psutil
from fsspec import AbstractFileSystem

from jobs.core.job import JobError, JobRun

# Seconds between two signs of life, and without any until a holder counts as dead.
_RENEWED_EVERY = 10.0
_DEAD_AFTER = 60.0
# Tries to read a file that is being written.
_READS = 20


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
        if (self.host, self.space) != (socket.gethostname(), _process_space()):
            return False
        try:
            return abs(psutil.Process(self.process).create_time() - self.started) > 1
        except psutil.NoSuchProcess:
            return True

    @property
    def silent_for(self) -> float:
        """Seconds since its last sign of life."""
        return time.time() - self.alive

    def __str__(self) -> str:
        return f"run {self.run_id} ({self.job}, process {self.process} on {self.host})"


class Lease:
    """A lease that this process holds."""

    def __init__(self, job: JobRun, name: str, number: int, holder: Holder) -> None:
        self._fs, self._folder = job.lake.fs, job.lake.path("leases", name)
        self._name, self._number, self._holder = name, number, holder

    def check(self) -> None:
        """Make sure that the lease was not lost, before something that only its holder may do.

        Raises:
            JobError: Another run took it, since this one gave no sign of life for too long.
        """
        number, holder = _newest(self._fs, self._folder)
        if number != self._number:
            raise JobError(
                f"{self._name}: {holder or 'another run'} has taken over, since this one gave no sign of life for "
                f"{_DEAD_AFTER:.0f} s. It changed no table; what it staged will be used."
            )

    def renew(self) -> None:
        """Give a sign of life, unless the lease was lost."""
        path = _path(self._folder, self._number)
        if self._fs.exists(path):
            self._fs.pipe_file(path, _as_json(replace(self._holder, alive=time.time())))

    def release(self) -> None:
        """Give the lease back."""
        path = _path(self._folder, self._number)
        if self._fs.exists(path):
            self._fs.rm(path)


@contextmanager
def held_lease(job: JobRun, name: str) -> Iterator[Lease]:
    """Hold the lease of that name while the block runs.

    A holder that is known to be gone, or was silent for a minute, is succeeded; one that was silent for a while is
    waited for until that minute is over.

    Raises:
        JobError: Another run holds it and is alive.
    """
    lease = _acquire(job, name)
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


def _acquire(job: JobRun, name: str) -> Lease:
    fs, folder = job.lake.fs, job.lake.path("leases", name)
    fs.makedirs(folder, exist_ok=True)
    while True:
        number, holder = _newest(fs, folder)
        if holder is not None and not holder.is_gone and holder.silent_for < _DEAD_AFTER:
            if holder.silent_for < 2 * _RENEWED_EVERY:
                raise JobError(
                    f"{name}: {holder} is at work (last sign of life {max(0.0, holder.silent_for):.0f} s ago). "
                    "Wait until it has ended, or end it; this run has changed nothing."
                )
            time.sleep(1)
            continue
        mine = Holder.of_this_process(job)
        try:
            with fs.open(_path(folder, number + 1), "xb") as file:
                file.write(_as_json(mine))
        except FileExistsError:
            continue
        if holder is not None:
            job.note(f"{name}: {holder} is gone; this run goes on in its place")
        if fs.exists(_path(folder, number)):
            fs.rm(_path(folder, number))
        return Lease(job, name, number + 1, mine)


def _newest(fs: AbstractFileSystem, folder: str) -> tuple[int, Holder | None]:
    """The highest number in the folder and who it stands for; 0 without any, None where nothing can be read of it."""
    fs.invalidate_cache(folder)
    numbers = [int(path.rpartition("/")[2].removesuffix(".json")) for path in fs.glob(f"{folder}/*.json")]
    if not numbers:
        return 0, None
    number = max(numbers)
    for _ in range(_READS):
        try:
            return number, Holder(**json.loads(fs.cat_file(_path(folder, number))))
        except FileNotFoundError:  # given back a moment ago
            break
        except ValueError:  # being written, or its writer died over it
            time.sleep(0.05)
    return number, None


def _process_space() -> str:
    space = Path("/proc/self/ns/pid")
    return str(space.readlink()) if space.is_symlink() else ""


def _path(folder: str, number: int) -> str:
    return f"{folder}/{number:08d}.json"


def _as_json(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()
