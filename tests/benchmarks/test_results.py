import json

import pytest

from benchmarks.results import Results, Run
from jobs.training.slices import JudgedQuery, RelevantItem

QUERY = JudgedQuery("q", "red", attributes={}, relevant={"a": RelevantItem("red", category=None, traffic="tail")})


def test_processes_share_the_runs_and_none_is_done_twice(tmp_path):
    one, other = (Results(tmp_path, asked={"minutes": 10}) for _ in range(2))
    with one.claim("full", 0) as by_one:
        with other.claim("full", 0) as by_other, other.claim("no image", 0) as another:
            assert (by_one, by_other, another) == (True, False, True)
        one.add(Run(cell="full", seed=0, device="2 CPU cores"), [QUERY], [["b", "a"]])
    with other.claim("full", 0) as again, other.claim("full", 1) as next_seed:
        assert (again, next_seed) == (False, True)


def test_results_of_other_settings_are_refused(tmp_path):
    Results(tmp_path, asked={"minutes": 10})
    (tmp_path / "runs.jsonl").write_text(json.dumps({"asked": {"minutes": 5}, "run": {}}) + "\n")
    with pytest.raises(ValueError, match=r"runs of \{'minutes': 5\}, expected \{'minutes': 10\}"):
        Results(tmp_path, asked={"minutes": 10})
