from collections import Counter

import numpy as np
import pytest

from models.training.mixing import MixingBuffer
from models.training.reader import Row


def row(number: int, term: int) -> Row:
    return Row(**{**dict.fromkeys(Row._fields, b""), "item_key": number, "term_key": term})


def buffer(group_rows: int, terms: list[int], *, seed: int = 0) -> MixingBuffer:
    mixed = MixingBuffer(group_rows, np.random.default_rng(seed))
    mixed.extend(row(number, term) for number, term in enumerate(terms))
    return mixed


@pytest.mark.parametrize("group_rows", [1, 4])
def test_every_row_is_drawn_once_in_batches_of_the_size_asked_for(group_rows):
    mixed = buffer(group_rows, [number % 7 for number in range(100)])
    drawn = []
    for size in (30, 1, 33, 36):
        batch = mixed.draw(size)
        assert len(batch) == size
        drawn += batch
        mixed.extend([])
    assert len(mixed) == 0
    assert sorted(each.item_key for each in drawn) == list(range(100))


def test_rows_of_a_term_are_drawn_together_up_to_the_size_of_a_group():
    batch = buffer(4, [number % 50 for number in range(400)]).draw(40)
    assert Counter(Counter(each.term_key for each in batch).values()).keys() <= {4, 8}
    alone = Counter(each.term_key for each in buffer(1, [number % 50 for number in range(400)]).draw(40))
    assert len(alone) > 20


def test_rows_that_come_later_join_a_group_that_has_room_but_no_group_that_was_drawn():
    mixed = buffer(4, [5, 5])
    mixed.extend([row(2, 5)])
    assert [each.item_key for each in mixed.draw(2)] == [0, 1]
    mixed.extend([row(3, 5)])
    assert sorted(each.item_key for each in mixed.rows()) == [2, 3]
    assert len(mixed.draw(2)) == 2


def test_the_same_seed_draws_the_same_rows_and_another_others():
    terms = [number % 9 for number in range(200)]
    first, again, other = (buffer(4, terms, seed=seed).draw(50) for seed in (1, 1, 2))
    assert first == again
    assert first != other
