"""Reading ahead changes when work is done, never what comes out."""

import threading

import pytest

from jobs.embedding.inference import read_ahead


def test_batches_come_in_order_and_the_next_is_prepared_while_one_is_used():
    prepared = [threading.Event() for _ in range(4)]

    def prepare(number: int) -> int:
        prepared[number].set()
        return number * 10

    used = []
    for result in read_ahead(range(4), prepare):
        used.append(result)
        following = result // 10 + 1
        if following < 4:
            assert prepared[following].wait(timeout=5)
    assert used == [0, 10, 20, 30]


def test_an_error_while_preparing_reaches_the_consumer():
    with pytest.raises(ZeroDivisionError):
        list(read_ahead([1, 0], lambda number: 1 / number))
