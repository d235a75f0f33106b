"""A process that cannot write a folder, whatever code it is made to run.

The process starts anew in a mount namespace of its own where the folder is mounted read-only, and without the
capabilities that could undo it.  All that it starts, a JVM and Python workers, lives there too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# The folder and what to run come as arguments, never as text of the script.
_SCRIPT = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift &&
exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs -- "$@"
"""
_PROGRAMS = ("unshare", "mount", "setpriv")


class ReadOnlyError(RuntimeError):
    """This machine does not let the process give up its right to write."""


def is_read_only(folder: Path) -> bool:
    """Whether no process of this mount namespace can write the folder."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def start_read_only(folder: Path, command: Sequence[str]) -> None:
    """Run a command in place of this process, where the folder cannot be written.

    Args:
        folder: What must not be written, an existing folder.
        command: Program and arguments.

    Raises:
        ReadOnlyError: That cannot be had here; the process goes on as it was.
    """
    inside = _inside(folder)
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        raise ReadOnlyError(f"{', '.join(missing)} not found (util-linux)")
    tried = subprocess.run([*inside, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise ReadOnlyError(tried.stderr.strip() or f"unshare ended with status {tried.returncode}")
    sys.stdout.flush()
    os.execvp(inside[0], [*inside, *command])  # noqa: S606 - it takes arguments as they are


def _inside(folder: Path) -> list[str]:
    namespaces = ["--mount"] if os.geteuid() == 0 else ["--user", "--map-root-user", "--mount"]
    return ["unshare", *namespaces, "sh", "-c", _SCRIPT, "sh", str(folder.absolute())]
