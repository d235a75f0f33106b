"""Every question of docs/sql.md runs, and has an answer."""

from pyspark.errors import PySparkException

from tests.sql.cookbook import STATEMENTS, put_answers


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
