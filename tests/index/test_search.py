"""Searches from the command line: one to the screen, many from file to file, by the build's own model."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.core.options import OptionsError, parse_options
from jobs.index import search
from jobs.index.builds import mirror_published
from jobs.index.searcher import Searcher
from models.encoder import Encoder

TITLES = ["red dress", "blue shirt", "green hat", "black shoe", "white bag"]


@pytest.fixture
def published(lake, promoted_model, write_build) -> str:
    """A published build whose item n has the vector of query n of TITLES."""
    encoder = Encoder.from_folder(lake.local_dir("models", promoted_model))
    folder = lake.path("indexes", "build-a")
    write_build(folder, encoder.embed_queries(TITLES), build_id="build-a", model_version=promoted_model)
    mirror_published(lake, "build-a")
    return promoted_model


def test_one_query_prints_titles_scores_and_weights(run_job, published, capfd):
    record = run_job(search, query="green hat", k=3)
    assert (record["verdict"], record["rows_out"]) == ("succeeded", 3)
    first = next(line for line in capfd.readouterr().err.splitlines() if "title of" in line)
    assert [cell.strip() for cell in first.strip("│").split("│")] == ["1", "1.000", "title of 2", "c", "0.75/0.25", "2"]


def printed_ids(capfd) -> list[str]:
    """The item ids of the table that a search printed."""
    rows = [line.strip("│").split("│") for line in capfd.readouterr().err.splitlines() if "title of" in line]
    return [cells[-1].strip() for cells in rows]


def searched(lake, item_id: str) -> list[str]:
    """All items, that one first, by the inner product of their vectors with its own."""
    searcher = Searcher.published(lake.uri("indexes"))
    ids = np.array(searcher.items(["item_id"])["item_id"].to_pylist())
    vectors = searcher.vectors(np.arange(len(searcher)))
    return ids[np.argsort(-vectors @ vectors[ids == item_id][0])].tolist()


def test_conditions_narrow_what_is_found_and_are_told(run_job, published, capfd):
    record = run_job(search, query="green hat", k=3, category="c")
    assert record["notes"] == ["3 of 5 items meet the conditions"]
    assert sorted(printed_ids(capfd)) == ["0", "2", "4"]
    record = run_job(search, query="green hat", min_price=3.0, item_ids=["1", "3", "4"])
    assert (record["rows_out"], sorted(printed_ids(capfd))) == (2, ["3", "4"])
    record = run_job(search, query="green hat", in_stock=True)
    assert sorted(printed_ids(capfd)) == ["0", "3", "4"]
    record = run_job(search, query="green hat", category="none")
    assert (record["rows_out"], record["notes"]) == (0, ["0 of 5 items meet the conditions"])


def test_an_item_finds_those_like_it_and_not_itself_without_the_model(lake, run_job, published, capfd):
    found = searched(lake, "2")
    lake.fs.rm(lake.path("models", published), recursive=True)
    record = run_job(search, like="2", k=3)
    assert (record["verdict"], printed_ids(capfd)) == ("succeeded", found[1:4])
    run_job(search, like="2", k=3, category="c")
    assert printed_ids(capfd) == [item for item in found[1:] if int(item) % 2 == 0]
    assert "no such item; expected one that was active" in run_job(search, like="9")["notes"][-1]


def test_a_table_of_queries_becomes_one_of_ranked_items(run_job, published, tmp_path):
    queries, output = tmp_path / "queries.parquet", tmp_path / "found"
    ids = [10, 11, 12, 13]
    pq.write_table(pa.table({"query_id": ids, "query": ["white bag", "red dress", " ", None], "x": ids}), queries)
    record = run_job(search, queries=str(queries), output=str(output), k=10)
    assert (record["rows_in"], record["rows_out"], record["rows_rejected"]) == (4, 2, 2)
    found = pq.read_table(output)
    assert found.column_names == ["query_id", "query", "rank", "item_id", "score"]
    rows = found.to_pandas()
    assert rows.groupby("query_id")["rank"].apply(list).to_dict() == {10: [1, 2, 3, 4, 5], 11: [1, 2, 3, 4, 5]}
    assert rows[rows["rank"] == 1].set_index("query_id")["item_id"].to_dict() == {10: "4", 11: "0"}
    assert (np.diff(rows[rows["query_id"] == 10]["score"]) <= 0).all()
    again = run_job(search, queries=str(queries), output=str(output))
    assert "is there already: name another place" in again["notes"][-1]


def test_a_build_is_searched_by_its_own_model_only(lake, run_job, published, write_build, vectors):
    rows = np.array(list(vectors.values()))
    write_build(lake.path("indexes", "build-b"), rows, build_id="build-b", model_version="make-other")
    record = run_job(search, query="red dress", build_id="build-b")
    assert record["verdict"] == "failed"
    assert "build-b needs the model make-other" in record["notes"][-1]
    lake.upload(lake.local_dir("models", published), "models", "make-other")
    record = run_job(search, query="red dress", build_id="build-b")
    assert f"models/make-other holds {published}" in record["notes"][-1]


def test_what_cannot_be_searched_is_said(lake, run_job, published, tmp_path):
    assert "build-x cannot be searched" in run_job(search, query="hat", build_id="build-x")["notes"][-1]
    missing = run_job(search, queries=str(tmp_path / "none.parquet"), output="out.parquet")
    assert missing["verdict"] == "failed"
    assert "none.parquet" in missing["notes"][-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --query, --like or --queries"),
        (["--query", "a", "--queries", "b"], "either --query, --like or --queries"),
        (["--query", "a", "--like", "b"], "either --query, --like or --queries"),
        (["--queries", "b"], "go together"),
        (["--query", "  "], "blank"),
        (["--query", "a", "-k", "0"], "greater than or equal to 1"),
    ],
)
def test_options_that_do_not_fit_together_are_refused_before_anything_starts(arguments, message):
    with pytest.raises(OptionsError, match=message):
        parse_options(search.Options, arguments)
