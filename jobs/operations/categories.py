"""The night by category: who lacks photos, who changed, came, went and was refused, and which shares stand out."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.operations.night import CatalogChange

# A share stands out that is of so many items or rows at least, more than so many times that of all other categories,
# and so many standard errors above it.
_LEAST, _TIMES, _ERRORS = 10, 2, 3


@dataclass(frozen=True)
class Share:
    """A part of a category's items or rows; of 0 where nothing is known.

    Args:
        stands_out: Whether it is far above that of the other categories, and not by chance.
    """

    part: int
    of: int
    stands_out: bool = False


@dataclass(frozen=True)
class CategorySlice:
    """One category, or several together.

    Args:
        items: Active items.
        shares: By name.
        drift: Largest 1 - cosine of an unchanged item's vector to that in the build before; None where none was
            compared.
    """

    category: str
    items: int
    shares: Mapping[str, Share]
    drift: float | None


def slice_by_category(
    changes: Mapping[str, CatalogChange],
    *,
    photos: Mapping[str, Mapping[str, int]],
    refused: Mapping[str, int],
    drift: Mapping[str, float],
    largest: int,
) -> list[CategorySlice]:
    """The largest categories, smaller ones of which a share stands out, the others together, and last all of them.

    Args:
        changes: Category -> what the night's snapshot did to its items.
        photos: Category -> ok, missing, broken -> its items with vectors.
        refused: Category -> refused rows of the snapshot.
        drift: Category -> largest drift of its unchanged items.
        largest: How many categories to tell apart for their size; half as many more may stand out.
    """
    counts = {
        category: Counter({"refused": refused.get(category, 0)})
        + Counter(vars(changes[category]) if category in changes else {})
        + Counter(photos.get(category, {}))
        for category in changes.keys() | refused.keys()
    }
    by_items = sorted(counts, key=lambda category: (-counts[category]["active"], category))
    whole = _sum(counts, by_items)

    def cut(name: str, categories: Sequence[str]) -> CategorySlice:
        of_slice = _sum(counts, categories)
        parts, of_rest = _parts(of_slice), _parts(whole - of_slice)
        shares = {share: Share(*part, _stands_out(part, of_rest[share])) for share, part in parts.items()}
        drifts = [drift[category] for category in categories if category in drift]
        return CategorySlice(name, of_slice["active"], shares, max(drifts, default=None))

    slices = [cut(category, [category]) for category in by_items]
    outliers = [one for one in slices[largest:] if any(share.stands_out for share in one.shares.values())]
    shown = slices[:largest] + outliers[: largest // 2]
    others = set(by_items) - {one.category for one in shown}
    if others:
        shown.append(cut(f"{len(others):,} other{'' if len(others) == 1 else 's'}", sorted(others)))
    return [*shown, cut("all categories", by_items)]


def _sum(counts: Mapping[str, Counter[str]], categories: Sequence[str]) -> Counter[str]:
    return sum((counts[category] for category in categories), Counter())


def _parts(counts: Counter[str]) -> dict[str, tuple[int, int]]:
    """Each share by name: part and whole."""
    with_vectors = counts["ok"] + counts["missing"] + counts["broken"]
    return {
        "no photo": (counts["missing"], with_vectors),
        "broken photo": (counts["broken"], with_vectors),
        "new": (counts["new"], counts["active"]),
        "changed": (counts["changed"], counts["active"]),
        "gone": (counts["gone"], counts["active"] + counts["gone"]),
        "refused": (counts["refused"], counts["active"] + counts["refused"]),
    }


def _stands_out(part: tuple[int, int], rest: tuple[int, int]) -> bool:
    """Whether a share, part and whole, is far above that of the rest, and not by chance."""
    if part[0] < _LEAST or not rest[1]:
        return False
    share, other = part[0] / part[1], rest[0] / rest[1]
    pooled = (part[0] + rest[0]) / (part[1] + rest[1])
    error = math.sqrt(pooled * (1 - pooled) * (1 / part[1] + 1 / rest[1]))
    return share > _TIMES * other and share - other > _ERRORS * error
