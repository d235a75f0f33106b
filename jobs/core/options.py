"""Options of jobs: from the command line first, then from `MAKE_*` environment variables, then the defaults.

Every option of a job is one field, so `--lake` and `MAKE_LAKE` are the same option.  All are validated before a Spark
session starts.
"""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, CliApp, NoDecode, SettingsConfigDict, SettingsError


def _split_at_commas(value: Any) -> Any:
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


Element = TypeVar("Element")
# An option that is given as a,b.
CommaSeparated = Annotated[list[Element], NoDecode, BeforeValidator(_split_at_commas)]


def _at_date(place: str, info: ValidationInfo) -> str:
    return place.replace("{date}", str(info.data.get("date", "{date}")))


# An option that names what comes once a day; {date} in it stands for the job's logical date: /landing/{date}/catalog.
DailySource = Annotated[str, AfterValidator(_at_date)]


class JobOptions(BaseSettings):
    """What every job takes."""

    model_config = SettingsConfigDict(
        env_prefix="MAKE_",
        env_ignore_empty=True,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_enforce_required=False,
        extra="ignore",
    )

    lake: str = Field("lake", description="Root of the lake: a folder, or a URI that Hadoop and fsspec both reach.")
    log_dir: Path = Field(Path("logs"), description="Folder for this machine's log files.")
    run_id: str | None = Field(None, description="The orchestrator's run; made up when absent.")
    attempt: int = Field(1, ge=1, description="Which try of the orchestrator's task this is.")


class DatedOptions(JobOptions):
    """What every job of a night takes."""

    date: dt.date = Field(description="Logical date, YYYY-MM-DD; the job never looks at the wall clock for it.")


AnyOptions = TypeVar("AnyOptions", bound=BaseSettings)


class OptionsError(ValueError):
    """Options that do not validate; the message has a line for each."""


def parse_options(kind: type[AnyOptions], arguments: Sequence[str]) -> AnyOptions:
    """Read and validate the options of a job.

    Args:
        kind: The job's options class; its docstring is the help's description.
        arguments: Command line without the program's name.

    Raises:
        OptionsError: An option is missing, unknown or not valid.
        SystemExit: `--help` was asked for, or an option is unknown.
    """
    try:
        return CliApp.run(kind, cli_args=list(arguments))
    except ValidationError as error:
        raise OptionsError("\n".join(_complaint(item) for item in error.errors())) from error
    except SettingsError as error:
        raise OptionsError(str(error)) from error


def _complaint(item: ErrorDetails) -> str:
    message = item["msg"].removeprefix("Value error, ")
    if not item["loc"]:
        return message
    name = str(item["loc"][0])
    came = "" if item["type"] == "missing" else f", got {item['input']!r}"
    return f"--{name.replace('_', '-')} (or MAKE_{name.upper()}): {message}{came}"
