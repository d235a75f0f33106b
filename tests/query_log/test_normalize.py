"""A query has one normal form, in the tables and in front of the model."""

import pytest

from jobs.query_log.normalize import normalize_query
from models.make.text import normalize_text

FORMS = {
    "ＲＥＤ　Ｄｒｅｓｓ": "red dress",
    "  Red \t\n dress ": "red dress",
    "Straße": "strasse",
    "İstanbul": "i̇stanbul",
    "ﬁne ①": "fine 1",
    "連衣裙　女": "連衣裙 女",
    "ｶﾀｶﾅ": "カタカナ",
    "Ｎｉｋｅ鞋": "nike鞋",
    "cafe\u0301": "café",
    "non\u00a0breaking": "non breaking",
    "Ⅻ": "xii",
    "": "",
    "   ": "",
    "👗 dress": "👗 dress",
}


@pytest.mark.parametrize("query", FORMS)
def test_the_models_form_folds_width_case_and_space(query):
    assert normalize_text(query) == FORMS[query]


def test_the_column_gives_exactly_the_models_form_and_keeps_null(spark):
    queries = [*FORMS, *FORMS, None]
    rows = spark.createDataFrame([(q,) for q in queries], "query string")
    read = rows.select("query", normalize_query("query").alias("form")).collect()
    assert [row["form"] for row in read] == [None if q is None else normalize_text(q) for q in queries]


def test_the_form_of_a_form_is_itself(spark):
    for query in FORMS:
        assert normalize_text(normalize_text(query)) == normalize_text(query)
