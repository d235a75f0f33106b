"""Answers can be read by a person and by a program; complaints are short."""

import io

import pytest
from rich.console import Console

from jobs.sql.door import Door, ScreenOptions
from jobs.sql.prompt import Completer, statements


class Screens:
    """A door, and what it printed."""

    def __init__(self, spark, lake, width: int) -> None:
        self._answers, self._complaints = io.StringIO(), io.StringIO()
        screen = Console(file=self._answers, width=width, highlight=False)
        complaints = Console(file=self._complaints, width=400)
        self._door = Door(spark, lake, screen=screen, complaints=complaints, options=ScreenOptions(rows=3))

    def ask(self, query, form="table"):
        """Whether it ran, its answer, its complaint."""
        for screen in (self._answers, self._complaints):
            screen.seek(0)
            screen.truncate()
        ran = self._door.answer(query, form)
        return ran, self._answers.getvalue(), self._complaints.getvalue()


@pytest.fixture
def screens(lake, spark, enter_lake):
    return Screens(spark, lake, width=100)


def test_a_table_shows_rows_up_to_its_limit_and_says_when_there_are_more(screens):
    ran, answer, _ = screens.ask("SELECT id FROM range(3)")
    assert ran
    assert "more" not in answer
    _, answer, _ = screens.ask("SELECT id FROM range(4)")
    assert "The first 3 rows; there are more." in answer


def test_vectors_photos_and_markup_are_shown_short_and_as_they_are(screens):
    _, answer, _ = screens.ask(
        "SELECT array_repeat(CAST(0.5 AS FLOAT), 256) AS v, CAST('abc' AS BINARY) AS photo, NULL AS n, '[red]x' AS t"
    )
    assert "[0.5, 0.5, 0.5, 0.5, ... 256 elements]" in answer.replace("\n", " ") or "256" in answer
    assert "<3 bytes>" in answer
    assert "NULL" in answer
    assert "[red]x" in answer


def test_rows_too_wide_for_the_screen_come_one_below_the_other(lake, spark, enter_lake):
    columns = ", ".join(f"{n} AS column_{n}" for n in range(12))
    _, answer, _ = Screens(spark, lake, width=80).ask(f"SELECT {columns}")
    assert "row 1" in answer
    assert "column_11" in answer


def test_csv_and_json_lines_hold_every_row(screens):
    _, answer, _ = screens.ask("SELECT id, concat('a,', id) AS t FROM range(5) ORDER BY id", "csv")
    assert answer.splitlines()[:2] == ["id,t", '0,"a,0"']
    assert len(answer.splitlines()) == 6
    _, answer, _ = screens.ask("SELECT 1 AS a, 'x' AS b", "json")
    assert answer == '{"a":1,"b":"x"}\n'


def test_a_statement_that_fails_is_one_short_complaint(screens):
    ran, answer, complaint = screens.ask("SELECT nope FROM range(1)")
    assert not ran
    assert not answer
    assert "nope" in complaint
    assert "Project" not in complaint
    ran, _, complaint = screens.ask("SELECT * FROM search('red dress', 3)")
    assert not ran
    assert "CURRENT is missing" in complaint
    assert "Traceback" not in complaint


def typed(monkeypatch, *lines):
    """What the prompt makes of lines that a person types, then Ctrl-D; an exception is raised where it stands."""
    waiting = iter(lines)

    def type_line(_prompt):
        line = next(waiting, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr("builtins.input", type_line)
    return list(statements("> ", "- "))


def test_a_statement_ends_with_a_semicolon_however_many_lines_it_takes(monkeypatch):
    assert typed(monkeypatch, "SELECT 1;", "", "SELECT", "  2 ;", ";", "unfinished") == ["SELECT 1", "SELECT\n  2"]


def test_ctrl_c_drops_an_unfinished_statement(monkeypatch):
    assert typed(monkeypatch, "SELECT oops", KeyboardInterrupt(), "SELECT 1;") == ["SELECT 1"]


@pytest.mark.parametrize("word", ["exit", "quit;", r"\q"])
def test_the_prompt_can_be_left_by_a_word(monkeypatch, word):
    assert typed(monkeypatch, word, "SELECT 1;") == []


def test_words_are_completed_in_the_case_in_which_they_were_begun():
    complete = Completer(["item_id", "items", "select"])
    assert [complete("ite", state) for state in range(3)] == ["item_id", "items", None]
    assert complete("SEL", 0) == "SELECT"
    assert complete("nothing", 0) is None
