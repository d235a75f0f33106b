"""Nights are compared with the first, which embeds everything, and with their plans."""

from benchmarks.churn import Night, told


def test_a_night_is_told_as_a_share_of_the_first_and_beside_its_plan():
    stages = {"startup": 2.0, "find_work": 4.0, "embed": 30.0, "merge": 4.0, "infer": 24.0}
    whole = Night(changed=0, embedded=44_072, seconds=stages, wall_seconds=52.0, predicted_seconds=None)
    few = {**stages, "embed": 2.0, "infer": 0.24}
    small = Night(changed=441, embedded=441, seconds=few, wall_seconds=22.0, predicted_seconds=20.0)
    first, second = told([whole, small]).splitlines()[2:]
    assert first == "| 0 | 44,072 | 2.0 | 4.0 | 30.0 | 4.0 | 52.0 | 100.0% | 100% | cannot tell |  |"
    assert second == "| 441 | 441 | 2.0 | 4.0 | 2.0 | 4.0 | 22.0 | 1.0% | 40% | 20 | -9% |"
