"""Print the reference of all tables in Markdown: `python -m schemas > docs/tables.md`."""

from schemas import ALL_TABLES
from schemas.table import Table


def table_reference(table: Table) -> str:
    """One table's section: comment, key, columns, constraints."""
    facts = [f"Key: {', '.join(table.key) or 'none'}."]
    if table.partitioned_by:
        facts.append(f"Partitioned by {', '.join(table.partitioned_by)}.")
    lines = [f"## `{table.name}`", "", table.comment, "", " ".join(facts), ""]
    lines += ["| column | type | null | holds |", "|---|---|---|---|"]
    lines += [
        f"| `{c.name}` | `{c.type.simpleString()}` | {'yes' if c.nullable else 'no'} | {c.comment} |"
        for c in table.columns
    ]
    if table.checks:
        lines += ["", "Constraints:", ""]
        lines += [f"* `{name}`: `{predicate}`" for name, predicate in table.checks.items()]
    return "\n".join(lines)


def reference() -> str:
    """The whole page."""
    head = "# Tables of the lake\n\nGenerated from `schemas/` by `python -m schemas > docs/tables.md`.\n"
    return head + "\n" + "\n\n".join(table_reference(table) for table in ALL_TABLES) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
