"""Sizes are built and searched one after the other, each in a lake of its own."""

from pathlib import Path

import pytest

from benchmarks import index_growth
from benchmarks.index_growth import Size, told
from benchmarks.peaks import Peaks
from benchmarks.searching import Searched
from benchmarks.vector_lake import Built


def test_a_size_is_told_by_what_building_and_searching_it_take():
    peaks = Peaks()
    peaks.worker_bytes, peaks.tree_bytes = 200 << 20, 3_000 << 20
    size = Size(
        items=1_000_000,
        key="IVF4096,Flat",
        shards=8,
        built=Built(Path("gone"), 61.0, peaks),
        index_bytes=3 << 20,
        folder_bytes=4 << 20,
        stages={"startup": 8.04, "write": 40.0},
        searched=Searched(0.987, 0.9, 3.5, 0.25),
    )
    lines = told([size]).splitlines()
    assert lines[2] == ("| 1,000,000 | `IVF4096,Flat` | 8 | 61 | startup 8.0, write 40.0 | 200 | 3,000 | 3 | 4 |")
    assert lines[6] == "| 1,000,000 | 3.50 | 0.25 | 0.9870 | 0.9000 |"


@pytest.mark.slow
def test_the_job_builds_each_size_in_a_process_of_its_own(capsys):
    index_growth.main(["--sizes=500,1500", "--dimension=8", "--queries=20"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| 500", "| 1,500"]
    for line in lines[2:4]:
        workers, processes = (int(cell.replace(",", "")) for cell in line.split(" | ")[5:7])
        assert 50 < workers < processes
    assert all(line.endswith("| 1.0000 | 1.0000 |") for line in lines[7:9])
