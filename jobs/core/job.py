"""How a job runs: options in, one session, one run record out, and a line that a person can read."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import NoReturn, TypeVar

import psutil
from pyspark.sql import SparkSession

from jobs.core.console import open_console, progress_bar, quieten_process
from jobs.core.errors import JobError, JobSkipped
from jobs.core.lake import Access, Lake, is_on_s3
from jobs.core.lease import TRY, held_lease
from jobs.core.lineage import Lineage
from jobs.core.log import log_json
from jobs.core.options import AnyOptions, DatedOptions, JobOptions, OptionsError, parse_options
from jobs.core.session import open_session
from schemas import JOB_RUNS

__all__ = ["DatedOptions", "JobError", "JobOptions", "JobRun", "JobSkipped", "main"]

Entered = TypeVar("Entered")
_log = logging.getLogger(__name__)

# Exit statuses beside success and failure; Airflow's operators know the same numbers.  There is nothing to do here, nor
# in what follows; all went well, and there is more to do.
EXIT_SKIPPED = 99
EXIT_AGAIN = 75


class JobRun:
    """One execution of a job: its session, its lake, and the record that it leaves in `job_runs`.

    Args:
        name: Domain and job, as on the command line.
        options: The validated options.
        console: Where people read.
    """

    def __init__(self, name: str, options: JobOptions) -> None:
        self.name = name
        self.options = options
        self.console = open_console()
        self.run_id = options.run_id or f"manual-{uuid.uuid4().hex[:12]}"
        self.access = Access()
        self._lineage = Lineage(self)
        self._started = psutil.Process().create_time()
        self._failed_tasks_before = 0
        self._counts: dict[str, int | None] = {"rows_in": None, "rows_out": None, "rows_rejected": None}
        self._seconds: dict[str, float] = {}
        self._figures: dict[str, float] = {}
        self._notes: list[str] = []
        self._verdict = "succeeded"
        self._is_recorded = True
        self._is_finished = True

    @cached_property
    def spark(self) -> SparkSession:
        """The session, opened on first use."""
        session = open_session(
            f"make {self.name}", self._lineage.spark_settings, marks={"run_id": self.run_id, "job": self.name}
        )
        jvm_started = session._jvm.java.lang.management.ManagementFactory.getRuntimeMXBean().getStartTime() / 1000
        self._started = min(self._started, jvm_started)
        self._seconds["startup"] = time.time() - self._started
        self._failed_tasks_before = _failed_tasks(session)
        return session

    @cached_property
    def lake(self) -> Lake:
        """The lake that the options name."""
        return Lake(self.spark, self.options.lake, self.access)

    @property
    def logical_date(self) -> date | None:
        """The date that the run is for."""
        return getattr(self.options, "date", None)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the block's wall seconds to the stage of that name."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add_seconds(name, time.perf_counter() - start)

    @contextmanager
    def timed(self, stage: str, entered: AbstractContextManager[Entered]) -> Iterator[Entered]:
        """Enter a context, and add the wall seconds that entering takes to the stage of that name."""
        with ExitStack() as stack:
            with self.stage(stage):
                value = stack.enter_context(entered)
            yield value

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Add seconds that were measured elsewhere, in a worker say."""
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def count(
        self, *, rows_in: int | None = None, rows_out: int | None = None, rows_rejected: int | None = None
    ) -> None:
        """Record what came, what was accepted or written, and what was refused."""
        given = {"rows_in": rows_in, "rows_out": rows_out, "rows_rejected": rows_rejected}
        self._counts.update({name: value for name, value in given.items() if value is not None})

    def figure(self, name: str, value: float) -> None:
        """Record any further figure."""
        self._figures[name] = float(value)

    def add_figure(self, name: str, value: float) -> None:
        """Add to a figure that a run which works in parts counts part by part."""
        self._figures[name] = self._figures.get(name, 0.0) + value

    def note(self, text: str) -> None:
        """Say something that a person should read, now and in the record."""
        self._notes.append(text)
        _log.info(text)
        self.console.print(f"  {text}", markup=False)

    def resolve(self, **values: object) -> None:
        """Put into the record what an option that was left open came to mean."""
        self.options = self.options.model_copy(update=values)

    def ask_again(self) -> None:
        """The run did its share and there is more to do; the process's exit status asks for another run."""
        self._is_finished = False

    def leave_no_record(self) -> None:
        """The run only looks: neither `job_runs` nor a last line is to say that the job was done."""
        self._is_recorded = False

    def unchanged(self) -> None:
        """The run found nothing to change."""
        self._verdict = "unchanged"

    def progress(
        self, description: str, total: float, position: Callable[[], float] | None = None
    ) -> AbstractContextManager[Callable[[float], None]]:
        """A progress bar over `total` units, moved by the function that it yields or by asking `position`."""
        return progress_bar(self.console, description, total, position)

    def execute(self, run: Callable[[JobRun, JobOptions], None]) -> int:
        """Run the job, write its record, print its line.

        Returns:
            The process's exit status.
        """
        _log.info("began with %s", self.options.model_dump_json())
        self._lineage.began()
        with ExitStack() as held:
            self._attempt(run, held)
            if self._is_recorded:
                self._record()
        self._log_end()
        self._lineage.ended(self._verdict, self._notes[-1] if self._notes else "")
        if self._is_recorded or self._verdict in ("failed", "skipped"):
            self._print_line()
        done = 0 if self._is_finished else EXIT_AGAIN
        return {"failed": 1, "skipped": EXIT_SKIPPED}.get(self._verdict, done)

    def _attempt(self, run: Callable[[JobRun, JobOptions], None], held: ExitStack) -> None:
        """Run the job; whatever comes of it is a verdict and a note.

        Args:
            run: The job.
            held: Takes what the run has to hold until its record is written.
        """
        try:
            held.enter_context(self._as_only_driver())
            with self._as_only_try():
                run(self, self.options)
        except JobSkipped as skipped:
            self._verdict = "skipped"
            self._notes.append(str(skipped))
        except JobError as error:
            self._verdict = "failed"
            self._notes.append(str(error))
        except Exception as error:
            self._verdict = "failed"
            self._notes.append(f"{type(error).__name__}: {_first_line(error)}")
            _log.exception(self._notes[-1])

    def _as_only_driver(self) -> AbstractContextManager[object]:
        """Waits for its turn where two drivers that commit at once would lose a commit."""
        if is_on_s3(self.options.lake) and self.lake.loses_commits:  # a lake elsewhere needs no session for the answer
            return held_lease(self, "driver", wait=True)
        return nullcontext()

    def _as_only_try(self) -> AbstractContextManager[object]:
        """Ends an earlier try that an orchestrator has lost and that is still at work.  A run by hand has one try."""
        if self.options.run_id is None:
            return nullcontext()
        return held_lease(self, f"{TRY}{self.name}-{self.run_id}".replace(" ", "-").replace("/", "_"))

    def _record(self) -> None:
        try:
            if self.options.attempt > 1:
                self.figure("attempt", self.options.attempt)
            if failed_tasks := _failed_tasks(self.spark) - self._failed_tasks_before:
                self.figure("failed_tasks", failed_tasks)
            self.lake.append(JOB_RUNS, self.spark.createDataFrame([self._row()], JOB_RUNS.schema))
        except Exception:
            _log.exception("this run could not be recorded in job_runs")
            self.console.print("  job_runs: this run could not be recorded; the log file says why", style="red")
            self._verdict = "failed"

    def _row(self) -> dict[str, object]:
        return {
            "run_id": self.run_id,
            "job": self.name,
            "logical_date": self.logical_date,
            "arguments": self.options.model_dump_json(),
            "started_at": datetime.fromtimestamp(self._started, UTC),
            "finished_at": datetime.now(UTC),
            **self._counts,
            "seconds": self._seconds,
            "figures": self._figures,
            "verdict": self._verdict,
            "notes": self._notes,
        }

    def _log_end(self) -> None:
        is_failed = self._verdict == "failed"
        said = f": {self._notes[-1]}" if self._notes and self._verdict in ("failed", "skipped") else ""
        seconds = time.time() - self._started
        _log.log(logging.ERROR if is_failed else logging.INFO, "%s after %.1f s%s", self._verdict, seconds, said)

    def _print_line(self) -> None:
        counts = [
            f"{value:,} {name.removeprefix('rows_')}" for name, value in self._counts.items() if value is not None
        ]
        mark, style = {
            "succeeded": ("done", "green"),
            "unchanged": ("unchanged", "cyan"),
            "skipped": ("skipped", "yellow"),
            "failed": ("FAILED", "bold red"),
        }[self._verdict]
        seconds = time.time() - self._started
        self.console.print(
            f"{self.name:<22} {mark:<10} {seconds:6.1f} s   {', '.join(counts)}", style=style, markup=False
        )
        if self._verdict in ("failed", "skipped"):
            self.console.print(f"  {self._notes[-1]}", style=style, markup=False)


def main(
    run: Callable[[JobRun, AnyOptions], None],
    kind: type[AnyOptions],
) -> NoReturn:
    """Entry point of a job's file, for `python -m jobs` and `spark-submit` alike."""
    path = Path(run.__code__.co_filename)
    name = f"{path.parent.name} {path.stem}".replace("_", "-")
    sys.argv[0] = f"python -m jobs {name}"  # what its help names
    try:
        options = parse_options(kind, sys.argv[1:])
    except OptionsError as error:
        print(f"{name}: {error}\nTry: python -m jobs {name} --help", file=sys.stderr)
        sys.exit(2)
    job = JobRun(name, options)
    quieten_process(options.log_dir / "jobs.log")
    log_json(run_id=job.run_id, job=name)
    sys.exit(job.execute(run))


def code_revision() -> str | None:
    """The revision of this checkout, or None outside one."""
    root = Path(__file__).resolve().parents[2]
    answer = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def _failed_tasks(spark: SparkSession) -> int:
    """Spark's tasks that failed, with their executor or alone, be it that others did their work."""
    executors = spark.sparkContext._jsc.sc().statusStore().executorList(False)  # those that are gone, too
    return sum(executors.apply(place).failedTasks() for place in range(executors.size()))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message; the log file has the traceback"
