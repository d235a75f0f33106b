import numpy as np
import pytest

from benchmarks.results import Results, Run
from benchmarks.table import half_of, interval_over_queries_and_seeds, summarize
from jobs.training.slices import JudgedQuery, RelevantItem


def test_the_interval_of_one_seed_is_the_bootstrap_over_queries():
    differences = np.random.default_rng(1).normal(0.1, 1.0, size=(1, 400))
    lower, upper = interval_over_queries_and_seeds(differences, level=0.95)
    error = differences.std() / np.sqrt(400)
    assert (lower, upper) == pytest.approx(
        (differences.mean() - 1.96 * error, differences.mean() + 1.96 * error), abs=0.01
    )


def test_seeds_that_disagree_widen_the_interval():
    of_query = np.random.default_rng(1).normal(0, 0.1, size=400)
    agreeing, disagreeing = np.stack([of_query] * 3), np.stack([of_query - 0.2, of_query, of_query + 0.2])
    narrow, wide = (interval_over_queries_and_seeds(values, level=0.95) for values in (agreeing, disagreeing))
    assert narrow[1] - narrow[0] < 0.05 < 0.3 < wide[1] - wide[0]


def test_a_stricter_level_gives_a_wider_interval():
    differences = np.random.default_rng(1).normal(size=(2, 100))
    one, many = (interval_over_queries_and_seeds(differences, level=level) for level in (0.95, 0.998))
    assert many[0] < one[0] < one[1] < many[1]


def test_queries_are_halved_by_the_digest_of_their_id():
    halves = [half_of(f"query-{number}") for number in range(1000)]
    assert 400 < halves.count("A") < 600
    assert [half_of(query_id) for query_id in "abc"] == ["A", "B", "A"]  # digests begin with c, 3, 2


def test_rivals_come_first_and_rows_stand_as_they_are_declared_whichever_ran_first(tmp_path):
    results = Results(tmp_path, asked={"training_set": "a set"})
    query = JudgedQuery("1", "red shoes", {}, {"a": RelevantItem("Red shoes", None, "none")})
    for cell in ("scalar", "mean", "full", "concat", "full, photos withheld", "BM25", "no image"):
        results.add(Run(cell=cell, seed=0, device="2 CPU cores"), [query], [["a", "b"]])
    rivals, others = ["BM25", "no image", "mean"], ["full, photos withheld", "concat", "scalar"]
    assert [cell.name for cell in summarize(results, command="").cells] == rivals + others


def hits(count: int) -> tuple[list[JudgedQuery], list[list[str]]]:
    """Forty queries, of which the first `count` find what answers them."""
    queries = [JudgedQuery(f"{n}", "shoes", {}, {"a": RelevantItem("Red shoes", None, "none")}) for n in range(40)]
    return queries, [["a"] if n < count else ["b"] for n in range(40)]


def test_a_cell_is_compared_over_the_seeds_that_it_shares_with_the_full_model(tmp_path):
    results = Results(tmp_path, asked={"training_set": "a set"})
    for cell, seed, found in (("full", 0, 20), ("full", 1, 24), ("mean", 0, 10), ("mean", 1, 16), ("mean", 2, 40)):
        results.add(Run(cell=cell, seed=seed, device="2 CPU cores"), *hits(found))
    (mean,) = summarize(results, command="").cells
    assert mean.seeds == 2
    assert mean.changes["recall_at_10"].mean == pytest.approx(13 / 40)
    assert mean.changes["recall_at_10"].change == pytest.approx(-9 / 40)


def test_many_rows_have_wider_intervals_than_one_and_rivals_are_counted_apart(tmp_path):
    widths = {"scalar": [], "mean": []}
    for names in (["mean", "scalar"], ["mean", "scalar", *(f"cell {n}" for n in range(19))]):
        results = Results(tmp_path / str(len(names)), asked={"training_set": "a set"})
        for cell, found in (("full", 20), *((name, 10) for name in names)):
            results.add(Run(cell=cell, seed=0, device="2 CPU cores"), *hits(found))
        by_name = {cell.name: cell.changes["recall_at_10"] for cell in summarize(results, command="").cells}
        for name, values in widths.items():
            values.append(by_name[name].upper - by_name[name].lower)
    assert widths["scalar"][1] > 1.3 * widths["scalar"][0]
    assert widths["mean"][1] == widths["mean"][0] == widths["scalar"][0]


def test_cells_that_were_asked_other_queries_are_not_compared(tmp_path):
    results = Results(tmp_path, asked={"training_set": "a set"})
    queries, ranked = hits(20)
    results.add(Run(cell="full", seed=0, device="2 CPU cores"), queries, ranked)
    results.add(Run(cell="mean", seed=0, device="2 CPU cores"), queries[1:], ranked[1:])
    with pytest.raises(ValueError, match="mean and full were measured on other queries"):
        summarize(results, command="")
