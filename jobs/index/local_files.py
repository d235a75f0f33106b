"""A build's files on this machine: where they lie already, or kept by digest once they were fetched."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from jobs.index.manifest import BuildIntegrityError, verify_file

# Where fetched files are kept; by default below the machine's folder for temporary files, in one of the user's own.
CACHE_VARIABLE = "MAKE_INDEX_CACHE"
# A file that no search has opened for so long goes when the next one is fetched.
_KEPT_SECONDS = 3 * 24 * 3600

_LOCAL = LocalFileSystem()


def local_files(folder: str, digests: Mapping[str, str]) -> dict[str, str]:
    """Where on this machine the files of a folder lie, fetched first where the folder is not of this machine.

    A fetched file is named by its digest, so builds share what they have in common, and all processes of a machine
    share one copy.  Whatever is returned was compared with its digest.

    Args:
        folder: A path or URL.
        digests: File names to their SHA-256.

    Raises:
        BuildIntegrityError: A file is missing or differs from its digest.
    """
    fs, root = url_to_fs(folder)
    if isinstance(fs, LocalFileSystem):
        for name, sha256 in digests.items():
            verify_file(fs, f"{root}/{name}", sha256)
        return {name: f"{root}/{name}" for name in digests}
    cache = _cache_folder()
    files = {name: str(_fetched(fs, f"{root}/{name}", sha256, cache)) for name, sha256 in digests.items()}
    _forget_unused(cache)
    return files


def _cache_folder() -> Path:
    folder = Path(os.environ.get(CACHE_VARIABLE) or f"{tempfile.gettempdir()}/make-index-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _fetched(fs: AbstractFileSystem, path: str, sha256: str, cache: Path) -> Path:
    kept = cache / sha256
    try:
        verify_file(_LOCAL, str(kept), sha256)
    except BuildIntegrityError:  # not there, or damaged
        arriving = cache / f".{sha256}.{uuid.uuid4().hex[:8]}"
        try:
            if fs.exists(path):
                fs.get_file(path, str(arriving))
                verify_file(_LOCAL, str(arriving), sha256)
            else:
                verify_file(fs, path, sha256)  # says what is missing
            arriving.rename(kept)
        finally:
            arriving.unlink(missing_ok=True)
    os.utime(kept)
    return kept


def _forget_unused(cache: Path) -> None:
    """Remove what was not opened for long; who has it open goes on reading it."""
    for kept in cache.iterdir():
        if kept.stat().st_mtime < time.time() - _KEPT_SECONDS:
            kept.unlink(missing_ok=True)
