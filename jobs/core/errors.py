"""How a job ends that does not come to its end."""


class JobError(Exception):
    """The job cannot go on; the message says what was expected, what came, and what to do."""


class JobSkipped(Exception):  # noqa: N818 - an outcome, not an error
    """There is nothing for this job, nor for those after it, to do; the message says why."""
