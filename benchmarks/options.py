"""A benchmark's command line, checked as a job's is."""

import sys

from jobs.core.options import AnyOptions, OptionsError, parse_options


def read_options(kind: type[AnyOptions], arguments: list[str]) -> AnyOptions:
    """The options; what is wrong with them ends the process, and is all that it says."""
    try:
        return parse_options(kind, arguments)
    except OptionsError as error:
        sys.exit(str(error))
