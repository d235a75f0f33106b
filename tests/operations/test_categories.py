"""Slices by category add up to the whole catalog, and what stands out does so to whoever counts by hand."""

import random

import pytest

from jobs.operations.categories import CategorySlice, Share, slice_by_category
from jobs.operations.night import CatalogChange


def change(active, *, new=0, changed=0, gone=0):
    return CatalogChange(active, new, changed, active - new - changed, gone, moved_on=False)


def sliced(changes, *, photos=None, refused=None, drift=None, largest=3) -> dict[str, CategorySlice]:
    slices = slice_by_category(changes, photos=photos or {}, refused=refused or {}, drift=drift or {}, largest=largest)
    return {one.category: one for one in slices}


def test_the_largest_come_first_then_the_others_together_then_all():
    found = sliced({name: change(size) for name, size in zip("abcdef", (5, 50, 7, 7, 100, 1), strict=True)})
    assert [(name, one.items) for name, one in found.items()] == [
        ("e", 100),
        ("b", 50),
        ("c", 7),
        ("3 others", 13),
        ("all categories", 170),
    ]


def test_every_share_is_of_the_rows_that_a_person_would_count():
    found = sliced(
        {"hat": change(8, new=2, changed=3, gone=2), "bag": change(4)},
        photos={"hat": {"ok": 4, "missing": 2, "broken": 1}},
        refused={"hat": 2, "nobody's": 1},
        drift={"hat": 0.25},
    )
    assert found["hat"].shares == {
        "no photo": Share(2, 7),
        "broken photo": Share(1, 7),
        "new": Share(2, 8),
        "changed": Share(3, 8),
        "gone": Share(2, 10),
        "refused": Share(2, 10),
    }
    assert found["bag"].shares["no photo"] == Share(0, 0)
    assert (found["hat"].drift, found["bag"].drift, found["all categories"].drift) == (0.25, None, 0.25)
    assert found["nobody's"].shares["refused"] == Share(1, 1)


def test_slices_add_up_to_the_whole():
    chance = random.Random(5)
    changes = {}
    for number in range(40):
        active = chance.randrange(200)
        new = chance.randrange(active + 1)
        changes[f"c{number}"] = change(active, new=new, changed=(active - new) // 2, gone=chance.randrange(9))
    refused = {f"c{number}": chance.randrange(9) for number in range(0, 45, 3)}
    *parts, whole = slice_by_category(changes, photos={}, refused=refused, drift={}, largest=12)
    assert whole.items == sum(one.active for one in changes.values()) == sum(one.items for one in parts)
    for name, share in whole.shares.items():
        assert share.part == sum(one.shares[name].part for one in parts)
        assert share.of == sum(one.shares[name].of for one in parts)
    assert whole.shares["refused"].part == sum(refused.values())


@pytest.mark.parametrize(
    ("missing", "of", "stands_out"),
    [
        (60, 300, True),  # 20 % beside 1 %
        (9, 20, False),  # 45 %, of too few
        (10, 20, True),
        (19, 1_000, False),  # 1.9 % is not twice 1 %
        (21, 1_000, True),  # 2.1 % is, by 3.2 standard errors
        (10, 400, False),  # 2.5 %, by 2.9 standard errors
    ],
)
def test_a_share_stands_out_that_is_more_than_twice_the_others_and_not_by_chance(missing, of, stands_out):
    photos = {"hat": {"ok": of - missing, "missing": missing}, "bag": {"ok": 9_900, "missing": 100}}
    found = sliced({"hat": change(of), "bag": change(10_000)}, photos=photos)
    assert found["hat"].shares["no photo"].stands_out == stands_out
    assert not found["bag"].shares["no photo"].stands_out
    assert not found["all categories"].shares["no photo"].stands_out


def test_a_small_category_that_stands_out_is_told_apart_from_the_others():
    changes = {name: change(1_000) for name in "abc"} | {"small": change(100), "calm": change(90), "tiny": change(9)}
    photos = {name: {"ok": one.active} for name, one in changes.items()}
    photos["small"] = {"ok": 40, "missing": 60}
    assert list(sliced(changes, photos=photos)) == ["a", "b", "c", "small", "2 others", "all categories"]


def test_an_empty_catalog_has_one_slice():
    (whole,) = sliced({}).values()
    assert (whole.category, whole.items, set(whole.shares.values())) == ("all categories", 0, {Share(0, 0)})
