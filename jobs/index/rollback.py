"""Go back to the build that was published before, and hold nights from publishing until released.

Reads:  index_builds, indexes/<build_id>/
Writes: index_builds, indexes/CURRENT
"""

import datetime as dt

from pydantic import Field
from pyspark.sql import Row

from jobs.core.job import JobError, JobOptions, JobRun, main
from jobs.core.lake import Lake
from jobs.index.builds import (
    earlier_builds,
    find_build,
    kept_builds,
    refuse_removed,
    switch_published,
    switching,
    verify_servable,
)
from jobs.index.manifest import BuildIntegrityError


class Options(JobOptions):
    """Go back to the build that was published before, and hold nights from publishing until released."""

    by: str = Field(min_length=1, description="Who rolls back; part of the hold.")
    reason: str = Field(min_length=1, description="Why; part of the hold.")
    until: dt.date | None = Field(None, description="Last logical date that is held; else until `index release`.")
    build_id: str | None = Field(None, description="Go back to this build instead of the one published before.")


def run(job: JobRun, options: Options) -> None:
    """Find a build that can serve, and switch to it, while no other run switches."""
    with switching(job):
        _roll_back(job, options)


def _roll_back(job: JobRun, options: Options) -> None:
    with job.stage("read"):
        builds = kept_builds(job.lake)
    published = next((build for build in builds if build["status"] == "published"), None)
    if published is None:
        raise JobError("no build is published: there is nothing to go back from")
    candidates = [_named(job.lake, options.build_id)] if options.build_id else earlier_builds(builds, published)
    with job.stage("verify"):
        target = _first_servable(job, candidates)
    if target is None:
        raise JobError(
            f"none of {len(candidates)} earlier builds can serve; {published['build_id']} stays published. "
            "Build and check anew, or name a build with --build-id"
        )
    with job.stage("switch"):
        hold = {"by": options.by, "reason": options.reason, "until": options.until}
        switch_published(job, target, published, hold=hold)
    job.count(rows_out=target["items"])
    job.note(
        f"{target['build_id']} of {target['logical_date']} is published again in place of {published['build_id']}; "
        "nights build and check but do not publish until `index release`"
        + (f" or after {options.until}" if options.until else "")
    )


def _named(lake: Lake, build_id: str) -> Row:
    build = find_build(lake, build_id)
    if build is not None:
        refuse_removed(build)
    if build is None or build["status"] not in ("superseded", "passed"):
        state = "not in index_builds" if build is None else build["status"]
        raise JobError(f"{build_id} is {state}: expected a build that passed its gates and is not published now")
    return build


def _first_servable(job: JobRun, candidates: list[Row]) -> Row | None:
    for build in candidates:
        try:
            verify_servable(job.lake, build)
        except BuildIntegrityError as error:
            job.note(f"{build['build_id']} of {build['logical_date']} cannot serve: {error}")
        else:
            return build
    return None


if __name__ == "__main__":
    main(run, Options)
