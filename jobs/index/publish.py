"""Publish the night's build once it has passed its gates: one commit switches every reader.

Reads:  index_builds, models, indexes/<build_id>/
Writes: index_builds, indexes/CURRENT
"""

import datetime as dt

from pydantic import Field
from pyspark.sql import Row

from jobs.core.job import DatedOptions, JobError, JobRun, main
from jobs.index.builds import (
    build_of_night,
    mirror_published,
    published_build,
    switch_published,
    switching,
    verify_servable,
)
from jobs.index.manifest import BuildIntegrityError


class Options(DatedOptions):
    """Publish the night's build once it has passed its gates: one commit switches every reader."""

    build_id: str | None = Field(None, description="Publish this build instead of the night's newest.")
    model_version: str | None = Field(
        None,
        description="Publish this model's build instead of the serving one's; 'promoted': the last one promoted.",
    )


def hold_of(published: Row | None, date: dt.date) -> str | None:
    """Why nights do not publish, in words; None when nothing holds them on that date."""
    hold = published["hold"] if published is not None else None
    if hold is None or (hold["until"] is not None and hold["until"] < date):
        return None
    until = f"until {hold['until']}" if hold["until"] else "until `index release`"
    return f"{hold['by']} holds {published['build_id']} {until}: {hold['reason']}"


def run(job: JobRun, options: Options) -> None:
    """Refuse, wait, or switch, while no other run does."""
    with switching(job):
        _publish(job, options)


def _publish(job: JobRun, options: Options) -> None:
    published = published_build(job.lake)
    build = build_of_night(job.lake, date=options.date, build_id=options.build_id, model_version=options.model_version)
    build_id = build["build_id"]
    if build["status"] == "published":
        mirror_published(job.lake, build_id)  # a run may have died between the commit and the mirror
        job.unchanged()
        job.note(f"{build_id} of {build['logical_date']} stays published")
        return
    if build["status"] == "superseded":
        job.unchanged()
        job.note(f"{build_id} was published before {published['build_id']}; `index rollback` is the way back")
        return
    if build["status"] != "passed":
        raise JobError(
            f"{build_id} is {build['status']}, expected passed: `index check --date {options.date}` says why"
        )
    if published is not None and build["logical_date"] < published["logical_date"]:
        raise JobError(
            f"{build_id} is of {build['logical_date']}, older than {published['build_id']} of "
            f"{published['logical_date']}, which stays published: to go back on purpose, use `index rollback`"
        )
    held = hold_of(published, options.date)
    if held:
        job.unchanged()
        job.note(f"{build_id} passed and waits. {held}")
        return

    with job.stage("verify"):
        try:
            verify_servable(job.lake, build)
        except BuildIntegrityError as error:
            raise JobError(f"{build_id} is not published: {error}") from error
    with job.stage("switch"):
        switch_published(job, build, published)
    job.count(rows_out=build["items"])
    in_place = f" in place of {published['build_id']}" if published is not None else ""
    job.note(f"{build_id} is published{in_place}")


if __name__ == "__main__":
    main(run, Options)
