"""The reference of tables that people read is the one that the declarations give."""

from pathlib import Path

from schemas import ALL_TABLES
from schemas.__main__ import reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tables.md"


def test_the_reference_of_tables_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: python -m schemas > docs/tables.md"


def test_every_column_of_every_table_is_explained():
    unexplained = [f"{table.name}.{c.name}" for table in ALL_TABLES for c in table.columns if not c.comment]
    assert not unexplained


def test_the_reference_names_every_table_and_constraint():
    page = reference()
    for table in ALL_TABLES:
        assert f"## `{table.name}`" in page
        assert all(f"* `{name}`" in page for name in table.checks)
