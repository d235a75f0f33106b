"""What table functions are called with: checked when a query is analysed, before anything runs."""

from __future__ import annotations

import gc
import re
from functools import lru_cache

from pyspark.sql.types import DataType, NullType, StringType
from pyspark.sql.udtf import AnalyzeArgument

from jobs.core.python_daemon import drop_archives
from jobs.index.manifest import Current, Manifest

# A build's name is a folder's: nothing in it leads elsewhere.
_BUILD_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def expect(function: str, **arguments: tuple[AnalyzeArgument, type[DataType]]) -> None:
    """Compare arguments' types with those that a function takes; NULL fits all.

    Raises:
        ValueError: One differs; all are named.
    """
    _settle_worker()
    if all(isinstance(argument.dataType, (kind, NullType)) for argument, kind in arguments.values()):
        return
    expected = ", ".join(f"{name} {_named(kind)}" for name, (_, kind) in arguments.items())
    came = ", ".join(f"{name} {argument.dataType.simpleString().upper()}" for name, (argument, _) in arguments.items())
    raise ValueError(f"{function}: expected {expected}, got {came}")


@lru_cache(maxsize=1)
def _settle_worker() -> None:
    """Make later analyses in this process short; the daemon that Spark forks it from is always its own."""
    drop_archives()
    gc.freeze()  # Spark collects garbage after every analysis, and nothing imported by now is garbage


def _named(kind: type[DataType]) -> str:
    return "INT" if kind.__name__ == "IntegralType" else kind.__name__.removesuffix("Type").upper()


def told_constant(function: str, name: str, argument: AnalyzeArgument) -> object:
    """The value of an argument that has to be known before the query runs.

    Raises:
        ValueError: It depends on a row.
    """
    if not argument.isConstantExpression:
        raise ValueError(f"{function}: expected {name} to be constant, got an expression over columns")
    return argument.value


def build_folder(indexes: str, build_id: AnalyzeArgument | None) -> str:
    """Folder of the build that an argument names, of the published one without it.

    Raises:
        ValueError: There is no such build, or nothing is published.
    """
    if build_id is None or isinstance(build_id.dataType, NullType):
        return f"{indexes}/{Current.read(indexes).build_id}"
    expect("build_id", build_id=(build_id, StringType))
    return named_build_folder(indexes, told_constant("build_id", "build_id", build_id))


def named_build_folder(indexes: str, name: str | None) -> str:
    """Folder of a build.

    Raises:
        ValueError: There is no such build.
    """
    if name is None or not _BUILD_ID.fullmatch(name):
        raise ValueError(f"build_id: expected the name of a build as in index_builds, got {name!r}")
    folder = f"{indexes}/{name}"
    Manifest.read(folder)
    return folder
