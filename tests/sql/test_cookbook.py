"""Every question of docs/sql.md runs and has an answer, and over the demo's lake the answer that the page prints."""

import re

import pytest
from pyspark.errors import PySparkException

from jobs.core.lake import Lake
from scripts import demo, run_dag
from scripts.cookbook import PAGE, Cook, questions
from tests.sql.cookbook import STATEMENTS, put_answers

# Where no model has a part in an answer, it is the same wherever the demo runs.
RESTS_ON_MODEL = re.compile(r"search|similar_items|score|weight|effect|embedding|drift|recall|duplicate")


def test_every_question_has_an_answer(spark, model_folder, tmp_path, enter_lake):
    assert len(STATEMENTS) >= 15
    enter_lake(put_answers(spark, tmp_path / "lake", model_folder))
    unanswered = []
    for statement in STATEMENTS:
        try:
            complaint = "" if spark.sql(statement).collect() else "no rows"
        except PySparkException as error:
            complaint = str(error)
        if complaint:
            unanswered.append(f"{statement}\n{complaint}")
    assert not unanswered, "\n\n".join(unanswered)


@pytest.fixture(scope="module")
def demo_lake(spark, tmp_path_factory):
    """`make demo`, in a folder of its own."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYSPARK_SUBMIT_ARGS", raising=False)  # of the tests' own session
        patch.setenv("MAKE_LOG_DIR", str(folder / "logs"))
        patch.setattr(run_dag, "AIRFLOW_HOME", folder / "airflow")
        for name in ("DEMO", "DATA", "LAKE"):
            patch.setattr(demo, name, folder / "demo" / name.lower())
        demo.main()
    return Lake(spark, str(folder / "demo" / "lake"))


@pytest.mark.slow
def test_the_page_prints_what_the_demo_answers(spark, demo_lake, enter_lake):
    enter_lake(demo_lake)
    cook = Cook(spark, demo_lake)
    differing = []
    for question in questions(PAGE.read_text(encoding="utf-8")):
        printed, answered = table(question.answer), table(cook.answer(question.statement))
        least = 0.5 if RESTS_ON_MODEL.search(question.statement) else 1.0
        if share_alike(printed, answered) < least:
            differing.append(f"{question.statement}\n{question.answer}{answered}")
    assert not differing, "\n\n".join(["run: make demo, then python -m scripts.cookbook", *differing])


def table(printed: str) -> list[list[str]]:
    """Cells of a printed table, its head first."""
    lines = [line.replace("┃", "│") for line in printed.splitlines() if line.startswith(("│", "┃"))]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def share_alike(one: list[list[str]], other: list[list[str]]) -> float:
    """Cells that are alike, where both tables have the same columns and as many rows; else 0."""
    if one[:1] != other[:1] or len(one) != len(other) or len(one) < 2:
        return 0.0
    cells, of_other = ([cell for row in rows[1:] for cell in row] for rows in (one, other))
    return sum(map(are_alike, cells, of_other)) / len(cells)


def are_alike(one: str, other: str) -> bool:
    """Figures within a twentieth: models that other processors trained differ a little."""
    try:
        return float(one) == pytest.approx(float(other), rel=0.05, abs=0.05)
    except ValueError:
        return one == other
