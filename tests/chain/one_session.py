"""A driver that runs jobs one after the other in one session, for tests whose jobs need JARs that the others' lack.

A line of standard input is a job and its options, `catalog ingest --date=2026-11-20`; it is answered by its status.
"""

import importlib
import shlex
import sys

from jobs.core.job import JobRun
from jobs.core.options import parse_options


def main() -> None:
    """Run what comes until there is no more."""
    for line in sys.stdin:
        domain, name, *arguments = shlex.split(line)
        module = importlib.import_module(f"jobs.{domain}.{name}".replace("-", "_"))
        job = JobRun(f"{domain} {name}", parse_options(module.Options, arguments))
        print(job.execute(module.run), flush=True)


if __name__ == "__main__":
    main()
