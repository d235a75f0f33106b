import torch
from hypothesis import given
from hypothesis import strategies as st

from models.make.objectives.masks import covering_titles, listed_items, same_product


@given(st.lists(st.lists(st.integers(-5, 5), max_size=6), min_size=1, max_size=6), st.randoms())
def test_listed_items_equals_looking_each_one_up(lists, random):
    keys = [random.randint(-5, 5) for _ in range(4)]
    listed = torch.tensor([item for row in lists for item in row], dtype=torch.int64)
    found = listed_items(torch.tensor(keys), listed, torch.tensor([len(row) for row in lists]))
    assert found.tolist() == [[item in row for item in keys] for row in lists]


def test_products_without_a_photo_do_not_share_one():
    keys = torch.tensor([1, 2, 3, 1]), torch.tensor([0, 0, 7, 7])
    expected = torch.eye(4, dtype=torch.bool)
    expected[0, 3] = expected[3, 0] = expected[2, 3] = expected[3, 2] = True
    assert torch.equal(same_product(keys, keys), expected)


words = st.lists(st.integers(0, 7), min_size=1, max_size=5)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=6))
def test_a_title_covers_a_query_when_it_holds_all_of_its_words(rows):
    """0 pads and 1 begins a text; neither is a word."""
    queries, titles = ([row[side] for row in rows] for side in (0, 1))
    padded = [torch.tensor([row + [0] * (5 - len(row)) for row in side]) for side in (queries, titles)]
    found = covering_titles(*padded)
    for i, query in enumerate(queries):
        wanted = set(query) - {0, 1}
        assert found[i].tolist() == [bool(wanted) and wanted <= set(title) for title in titles]
