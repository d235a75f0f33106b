"""Lift the hold that a rollback set, so that nights publish again.

Reads:  index_builds
Writes: index_builds
"""

from jobs.core.job import JobOptions, JobRun, main
from jobs.index.builds import lift_hold, published_build, switching


class Options(JobOptions):
    """Lift the hold that a rollback set, so that nights publish again."""


def run(job: JobRun, options: Options) -> None:
    """Clear the published build's hold."""
    with switching(job):
        published = published_build(job.lake)
        if published is None or published["hold"] is None:
            job.unchanged()
            job.note("nothing is held")
            return
        lift_hold(job)
    hold = published["hold"]
    job.note(
        f"{published['build_id']} is no longer held (was: {hold['by']}, {hold['reason']}); the next night publishes"
    )


if __name__ == "__main__":
    main(run, Options)
