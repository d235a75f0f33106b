"""Set-up with the machine's own environments where they are wanted as they are, and with fake programs where not."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import set_up

ROOT = Path(__file__).resolve().parents[1]


def write_program(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def fake_java(version: str) -> str:
    return f"echo 'openjdk version \"{version}\" 2026-01-20' >&2"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, with no Java in it and no package manager."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(set_up, "LOG", tmp_path / "setup.log")
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what set-up reads, without environments."""
    copy = tmp_path / "checkout"
    for name in ("scripts", "requirements", "conf"):
        shutil.copytree(ROOT / name, copy / name)
    return copy


def setup_in(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "scripts/setup.sh"], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )


def test_a_second_setup_does_nothing_and_takes_less_than_a_second():
    # A make within a make (this test under `make test`) would announce the folders that it enters.
    command = ["make", "--no-print-directory", "setup"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        again = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        seconds.append(time.monotonic() - start)
        assert again.stdout == ""
    assert min(seconds) < 1  # the machine may be busy with something else


@pytest.mark.parametrize("version", ["3.9.2", "3.13.0"])
def test_a_python_of_another_version_is_named_in_one_line_that_says_what_to_install(checkout: Path, version: str):
    python = write_program(checkout / "python", f'[ "$1" = --version ] && echo Python {version} && exit; exit 1')
    answer = setup_in(checkout, PATH="/usr/bin:/bin", MAKE_PYTHON=str(python))
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert "Python 3.11 or 3.12 is needed" in line
    assert f"Python {version}" in line
    assert "apt-get install python3" in line


def test_launchers_that_only_print_an_error_count_as_no_python(checkout: Path, tools: Path):
    for name in ("python3", "python3.11", "python3.12"):
        write_program(tools / name, f"echo '{name}: command not found' >&2; exit 127")
    (tools / "dirname").symlink_to(shutil.which("dirname", path="/usr/bin:/bin"))
    answer = setup_in(checkout, PATH=str(tools))
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert "python3 is: none" in line


def test_a_python_without_its_venv_module_is_told_apart(checkout: Path):
    python = write_program(checkout / "python", 'case "$2" in *ensurepip*) exit 1 ;; esac')
    (line,) = setup_in(checkout, PATH="/usr/bin:/bin", MAKE_PYTHON=str(python)).stderr.splitlines()
    assert "no venv module" in line
    assert "python3-venv" in line


def test_a_missing_java_is_one_line_that_says_what_to_install(tools: Path):
    with pytest.raises(set_up.SetupError, match=r"^Java 17 is needed, none was found; install it .*openjdk-17.*$"):
        set_up.check_java()


@pytest.mark.parametrize(("version", "major"), [("1.8.0_392", 8), ("21.0.2", 21)])
def test_another_java_is_named(tools: Path, version: str, major: int):
    java = write_program(tools / "java", fake_java(version))
    with pytest.raises(set_up.SetupError, match=f"Java 17 is needed, {java} is Java {major}"):
        set_up.check_java()


def test_java_home_goes_before_the_path(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_program(tools / "java", fake_java("21.0.2"))
    write_program(tmp_path / "jdk" / "bin" / "java", fake_java("17.0.15"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    assert set_up.check_java() == "Java 17 is there"


def test_on_debian_root_gets_the_java_runtime_installed(tools: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    java = write_program(tools / "new-java", fake_java("17.0.15"))
    write_program(
        tools / "apt-get", f'[ "$1" = install ] && /bin/ln -s {java} {tools}/java; echo "$@" >> {tools}/asked'
    )
    assert set_up.check_java() == "Java 17 is there"
    assert "openjdk-17-jre-headless" in (tools / "asked").read_text()


def test_who_is_not_root_is_told_to_install_java(tools: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    write_program(tools / "apt-get", f"touch {tools}/asked")
    with pytest.raises(set_up.SetupError, match="apt-get install openjdk-17"):
        set_up.check_java()
    assert not (tools / "asked").exists()


def test_a_step_runs_again_only_when_its_inputs_change_or_it_was_cut_off(tmp_path: Path):
    done = []

    def work() -> str:
        done.append("work")
        return "worked"

    def cut_off() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        set_up.run_step(tmp_path, "packages", ["pins"], cut_off)
    set_up.run_step(tmp_path, "packages", ["pins"], work)
    set_up.run_step(tmp_path, "packages", ["pins"], cut_off)
    set_up.run_step(tmp_path, "packages", ["other pins"], work)
    assert done == ["work", "work"]


def test_an_environment_that_works_is_taken_over_and_a_broken_one_is_made_anew(tmp_path: Path):
    venv = tmp_path / ".venv"
    assert "Python" in set_up.create_venv(venv)
    (venv / "mine").touch()
    assert set_up.create_venv(venv) == ".venv: took over"
    (venv / "bin" / "python").unlink()
    assert "Python" in set_up.create_venv(venv)
    assert not (venv / "mine").exists()


def test_a_command_that_fails_is_one_line_with_its_last_words_and_the_log(tools: Path):
    with pytest.raises(set_up.SetupError, match=r"failed: no such package .*setup\.log.*run make again") as failure:
        set_up.run_logged([sys.executable, "-c", "import sys; sys.exit('reading pins\\nno such package')"])
    assert "\n" not in str(failure.value)
