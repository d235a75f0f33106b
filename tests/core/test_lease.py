"""Of runs that write one table one holds its lease; a run that is gone does not hold up the next."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
from botocore.exceptions import ClientError
from fsspec.implementations.local import LocalFileSystem
from s3fs.errors import translate_boto_error

from jobs.core import lease as leases
from jobs.core.job import JobError
from jobs.core.lease import Holder, held_lease


@pytest.fixture
def run(tmp_path):
    """A run's worth of what leases read, by its id; its notes are kept."""

    def make(run_id: str):
        notes = []
        lake = SimpleNamespace(fs=LocalFileSystem(), path=lambda *parts: "/".join([str(tmp_path), *parts]))
        return SimpleNamespace(run_id=run_id, name="embedding items", lake=lake, note=notes.append, notes=notes)

    return make


def left_by(tmp_path, holder: Holder, number: int = 7) -> None:
    folder = tmp_path / "leases"
    folder.mkdir(exist_ok=True)
    (folder / f"table.{number:08d}.json").write_text(json.dumps(vars(holder)))


def files(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "leases").iterdir())


def test_a_second_run_stops_with_a_clear_line_and_one_after_it_may_go_on(run, tmp_path):
    with held_lease(run("first"), "table"):
        with (
            pytest.raises(JobError, match=r"^table: run first \(embedding items, process \d+ on .*\) is at work"),
            held_lease(run("second"), "table"),
        ):
            pytest.fail("two hold the lease")
        with held_lease(run("second"), "another table"):
            pass
    third = run("third")
    with held_lease(third, "table") as lease:
        lease.check()
    assert (third.notes, files(tmp_path)) == ([], [])


def test_a_run_whose_process_is_gone_is_succeeded_at_once(run, tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    orphan = replace(Holder.of_this_process(run("orphan")), process=ended.pid)
    left_by(tmp_path, orphan)
    heir = run("heir")
    with held_lease(heir, "table"):
        assert files(tmp_path) == ["table.00000008.json"]
    assert heir.notes == [f"table: {orphan} is gone; this run goes on in its place"]


@pytest.fixture
def earlier_try(run, tmp_path):
    """Starts a program that sleeps, as the holder of the lease; returns the holder and all processes of the program."""
    started = []

    def start(program: list[str]) -> tuple[Holder, list[psutil.Process]]:
        process = psutil.Popen(program)
        started.append(process)
        deadline = time.monotonic() + 10
        while not process.children() and "-c" in program:
            assert time.monotonic() < deadline
        at_work = process.children()[0] if "-c" in program else process
        holder = replace(Holder.of_this_process(run("night")), process=at_work.pid, started=at_work.create_time())
        left_by(tmp_path, holder)
        return holder, [process, at_work]

    yield start
    for process in started:
        process.kill()


SLEEP = ["sleep", "600"]
SUBMITTED = [sys.executable, "-c", f"import subprocess; subprocess.run({SLEEP})", "org.apache.spark.deploy.SparkSubmit"]


@pytest.mark.parametrize("program", [SLEEP, SUBMITTED], ids=["alone", "in spark-submit"])
def test_an_earlier_try_of_the_same_run_that_nobody_watches_any_more_is_ended(run, tmp_path, earlier_try, program):
    holder, processes = earlier_try(program)
    again = run("night")
    with held_lease(again, "table"):
        assert all(map(leases._has_ended, processes))
        assert files(tmp_path) == ["table.00000008.json"]
    assert again.notes == [f"table: {holder} is gone; this run goes on in its place"]


def test_another_run_on_this_machine_is_not_ended(run, earlier_try):
    _, (process, _) = earlier_try(SLEEP)
    with pytest.raises(JobError, match=r"run night .* is at work"), held_lease(run("by hand"), "table"):
        pytest.fail("two hold the lease")
    assert not leases._has_ended(process)


def test_a_process_number_that_was_used_again_is_not_the_holder(run, tmp_path):
    holder = Holder.of_this_process(run("orphan"))
    left_by(tmp_path, replace(holder, started=holder.started - 3600))
    with held_lease(run("heir"), "table"):
        assert files(tmp_path) == ["table.00000008.json"]


def test_of_another_machine_only_silence_tells_that_it_is_gone(run, tmp_path, monkeypatch):
    holder = replace(Holder.of_this_process(run("remote")), host="another machine", process=1)
    left_by(tmp_path, holder)
    with pytest.raises(JobError, match="process 1 on another machine"), held_lease(run("second"), "table"):
        pytest.fail("two hold the lease")
    monkeypatch.setattr(leases, "_DEAD_AFTER", 32.0)
    left_by(tmp_path, replace(holder, alive=time.time() - 30))
    began = time.monotonic()
    with held_lease(run("heir"), "table"):
        assert 1 < time.monotonic() - began < 10


def test_a_holder_that_works_renews_and_one_that_was_succeeded_learns_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "_RENEWED_EVERY", 0.05)
    with held_lease(run("slow"), "table") as lease:
        (file,) = (tmp_path / "leases").iterdir()
        written = json.loads(file.read_text())["alive"]
        deadline = time.monotonic() + 5
        while leases._newest(LocalFileSystem(), str(file.parent / "table"))[1].alive <= written:
            assert time.monotonic() < deadline
        lease.check()
        left_by(tmp_path, replace(Holder.of_this_process(run("heir")), host="another machine"))
        with pytest.raises(JobError, match=r"table: run heir .* has taken over"):
            lease.check()
    assert files(tmp_path) == ["table.00000007.json"]


def test_a_store_that_hiccups_costs_no_lease(run, tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "_RENEWED_EVERY", 0.02)
    renewals, renew = [], leases.Lease.renew

    def hiccup(lease):
        renewals.append(lease)
        if len(renewals) == 1:
            raise OSError("the store is away")
        renew(lease)

    monkeypatch.setattr(leases.Lease, "renew", hiccup)
    with held_lease(run("first"), "table") as lease:
        deadline = time.monotonic() + 5
        while len(renewals) < 3:
            assert time.monotonic() < deadline
        lease.check()


def test_a_file_whose_writer_died_over_it_holds_nothing(run, tmp_path):
    left_by(tmp_path, Holder.of_this_process(run("orphan")))
    (tmp_path / "leases" / "table.00000007.json").write_text("")
    with held_lease(run("heir"), "table"):
        assert files(tmp_path) == ["table.00000008.json"]


def test_a_run_that_waits_goes_on_when_the_lease_is_given_back(run):
    first, second, order = run("first"), run("second"), []

    def work() -> None:
        with held_lease(second, "table", wait=True):
            order.append("second")

    with held_lease(first, "table") as lease:
        waiting = threading.Thread(target=work)
        waiting.start()
        deadline = time.monotonic() + 10
        while not second.notes:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        order.append("first")
        assert second.notes == [f"table: waits for {lease._holder}"]
    waiting.join()
    assert order == ["first", "second"]


class StoreOfAnswers(LocalFileSystem):
    """A store that does what it is asked to, or not, and then gives these answers to requests with a condition."""

    cachable = False

    def __init__(self, *answers: Exception, does: bool) -> None:
        super().__init__()
        self.answers, self.does = list(answers), does

    def pipe_file(self, path, value, mode="overwrite", **kwargs) -> None:
        if mode == "create" and self.answers:
            if self.does:
                super().pipe_file(path, value, mode=mode, **kwargs)
            raise self.answers.pop()
        super().pipe_file(path, value, mode=mode, **kwargs)


def test_a_request_that_was_sent_again_because_its_answer_was_lost_holds_the_lease(run, tmp_path):
    job = run("first")
    job.lake.fs = StoreOfAnswers(FileExistsError("the first one made it"), does=True)
    with held_lease(job, "table"):
        assert files(tmp_path) == ["table.00000001.json"]
    assert (job.notes, files(tmp_path)) == ([], [])


def test_a_request_that_met_another_at_the_same_moment_is_made_again(run, tmp_path):
    response = {"Error": {"Code": "ConditionalRequestConflict", "Message": "in progress"}}
    conflict = translate_boto_error(ClientError(response, "PutObject"), set_cause=True)
    job = run("first")
    job.lake.fs = StoreOfAnswers(conflict, does=False)
    with held_lease(job, "table"):
        assert files(tmp_path) == ["table.00000001.json"]
    job.lake.fs = StoreOfAnswers(PermissionError("not yours"), does=False)
    with pytest.raises(PermissionError, match="not yours"), held_lease(job, "table"):
        pytest.fail("it holds what it could not write")


def test_of_many_that_try_at_once_one_wins(run, tmp_path):
    winners, refused, all_started = [], [], threading.Barrier(8)

    def attempt(number: int) -> None:
        all_started.wait()
        try:
            with held_lease(run(f"run {number}"), "table"):
                winners.append(number)
                while len(winners) + len(refused) < 8:
                    time.sleep(0.01)
        except JobError:
            refused.append(number)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(winners), len(refused)) == (1, 7)
