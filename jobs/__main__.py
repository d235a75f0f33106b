"""`python -m jobs` lists every job; `python -m jobs <domain> <job> --help` documents one; without --help it runs it."""

import ast
import re
import runpy
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_CALL = re.compile(r'^if __name__ == "__main__":\n    (main|enter)\(', re.MULTILINE)


def find_jobs() -> dict[str, dict[str, Path]]:
    """Domain to job to file.  A job is a file that calls `main`, or a door's `enter`, when run as a program."""
    found: dict[str, dict[str, Path]] = {}
    for file in sorted(_HERE.glob("*/*.py")):
        if _CALL.search(file.read_text(encoding="utf-8")):
            domain, job = file.parent.name.replace("_", "-"), file.stem.replace("_", "-")
            found.setdefault(domain, {})[job] = file
    return found


def _summary(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def main(arguments: list[str]) -> None:
    """List the jobs, or run the one that the arguments name."""
    jobs = find_jobs()
    match arguments:
        case [domain, job, *_] if job in jobs.get(domain, {}):
            file = jobs[domain][job]
            sys.argv[1:] = arguments[2:]
            # In place of this module: a class of options looks its annotations up in what is named __main__.
            runpy.run_module(f"jobs.{file.parent.name}.{file.stem}", run_name="__main__", alter_sys=True)
        case [] | ["-h" | "--help"]:
            print("usage: python -m jobs <domain> <job> [--help] [options]\n")
            for domain, files in jobs.items():
                print(domain)
                for job, file in files.items():
                    print(f"  {job:<12} {_summary(file)}")
        case _:
            named = " ".join(arguments[:2])
            sys.exit(f"no job is named '{named}'. Run `python -m jobs` for the list.")


if __name__ == "__main__":
    main(sys.argv[1:])
