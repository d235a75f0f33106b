"""A process that was started read-only cannot write the folder, nor undo that, and may write elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.sql import read_only
from jobs.sql.read_only import ReadOnlyError, is_read_only, start_read_only
from scripts.environment import ROOT

START = "import sys; from pathlib import Path; from jobs.sql.read_only import *; "
TRY = """
touch "$0/written"; mount -o remount,bind,rw "$0"; umount "$0"; mount --bind "$0" "$1"; touch "$0/written"
unshare --mount sh -c 'mount -o remount,bind,rw "$0"; touch "$0/written"' "$0"; rm "$0/kept"; mv "$0" "$0-moved"
touch "$1/elsewhere"
"""


def run(program: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", START + program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a file, where this machine allows that it be protected."""
    protected = tmp_path / "it's protected"
    protected.mkdir()
    (protected / "kept").write_text("as it was")
    tried = run("start_read_only(Path(sys.argv[1]), ['true'])", str(protected))
    if "ReadOnlyError" in tried.stderr:
        pytest.skip(f"this machine allows no mount namespace: {tried.stderr.splitlines()[-1]}")
    return protected


def test_nothing_that_it_runs_writes_the_folder(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    program = "start_read_only(Path(sys.argv[1]), ['sh', '-c', sys.argv[3], sys.argv[1], sys.argv[2]])"
    run(program, str(folder), str(other), TRY)
    assert sorted(file.name for file in folder.iterdir()) == ["kept"]
    assert (folder / "kept").read_text() == "as it was"
    assert [file.name for file in other.iterdir()] == ["elsewhere"]
    # Who started it goes on as before.
    assert not is_read_only(folder)
    (folder / "written").touch()


def test_it_knows_that_it_is_there(folder):
    program = (
        "print(is_read_only(Path(sys.argv[1])), flush=True); is_read_only(Path(sys.argv[1])) or "
        "start_read_only(Path(sys.argv[1]), [sys.executable, '-c', sys.argv[2], sys.argv[1]])"
    )
    again = START + "print(is_read_only(Path(sys.argv[1])))"
    assert run(program, str(folder), again).stdout.split() == ["False", "True"]


def test_where_the_programs_are_missing_it_says_which(tmp_path, monkeypatch):
    monkeypatch.setattr(read_only.shutil, "which", lambda program: None if program == "setpriv" else program)
    with pytest.raises(ReadOnlyError, match="setpriv not found"):
        start_read_only(tmp_path, ["true"])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a user whom mounts are denied, and root to become that user")
def test_where_mounts_are_denied_it_says_so_and_goes_on(tmp_path):
    program = "start_read_only(Path(sys.argv[1]), ['true'])"
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--"]
    told = subprocess.run(
        [*command, sys.executable, "-c", START + program, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ReadOnlyError: unshare" in told.stderr
