"""What changed between two builds: which items came, went and are otherwise than they were, and how answers moved."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.index.gates import drift
from jobs.index.searcher import Searcher
from jobs.operations.contact_sheet import Answer, ShownItem, answer_queries, shown_items
from jobs.operations.night import NO_CATEGORY

# Kind of change -> the column that tells it; an item can be of several of these kinds.
_TOLD_BY = {
    "other title": "title",
    "other photo": "image_sha256",
    "other category": "category",
    "other price": "price",
}
# What the model reads: items that have both as they were have the vector that they had, but for drift.
_READ_BY_THE_MODEL = ("other title", "other photo")
_DRIFT_ITEMS = 20_000


@dataclass(frozen=True)
class ChangedItem:
    """An item as the newer of the builds that hold it knows it, and as the older one did; None where one alone does."""

    now: ShownItem
    was: ShownItem | None


@dataclass(frozen=True)
class KindOfChange:
    """How many items changed in one way, and a few of them, by chance but always the same."""

    items: int
    examples: Sequence[ChangedItem]


@dataclass(frozen=True)
class BuildChanges:
    """A build beside an earlier one.

    Args:
        kinds: came, went, other title, other photo, other category, other price -> the items.
        same: Items of both that are as they were in all of that.
        drift: Category -> largest 1 - cosine of the vectors of its items that the model reads as before, in a sample;
            empty across models.
    """

    kinds: Mapping[str, KindOfChange]
    same: int
    drift: Mapping[str, float]


@dataclass(frozen=True)
class LostItem:
    """An item that is no longer among the first; `is_gone` when the build does not hold it any more."""

    item: ShownItem
    is_gone: bool


@dataclass(frozen=True)
class Moves:
    """How a query's first results differ from another build's: ids that are new there, and lost items, best first."""

    came: Collection[str]
    lost: Sequence[LostItem]


def compare_builds(before: Searcher, after: Searcher, *, examples: int) -> BuildChanges:
    """Items of two builds, by item_id.

    Args:
        before: The earlier build.
        after: The later build.
        examples: How many items of a kind at most.
    """
    rows_before, rows_after = _match(before, after)
    in_both = (rows_before >= 0) & (rows_after >= 0)
    is_of = {"came": rows_before < 0, "went": rows_after < 0}
    for kind, column in _TOLD_BY.items():
        is_of[kind] = np.zeros(len(in_both), dtype=bool)
        is_of[kind][in_both] = _differs(before, after, column, rows_before[in_both], rows_after[in_both])
    by_chance = np.random.default_rng(0).permutation(len(in_both))
    places = {kind: by_chance[is_one[by_chance]][:examples] for kind, is_one in is_of.items()}
    shown = np.unique(np.concatenate(list(places.values())))
    was = shown_items(before, rows_before[shown][rows_before[shown] >= 0])
    now = shown_items(after, rows_after[shown][rows_after[shown] >= 0])

    def changed(place: int) -> ChangedItem:
        old, new = was.get(rows_before[place]), now.get(rows_after[place])
        return ChangedItem(old, None) if new is None else ChangedItem(new, old)

    return BuildChanges(
        kinds={
            kind: KindOfChange(int(is_one.sum()), [changed(place) for place in places[kind]])
            for kind, is_one in is_of.items()
        },
        same=int((~np.logical_or.reduce(list(is_of.values()))).sum()),
        drift=_drift_by_category(before, after, rows_before, rows_after, by_chance[_as_read(is_of)[by_chance]]),
    )


def _match(before: Searcher, after: Searcher) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each item in both builds, -1 in the one that lacks it."""
    olds, news = (
        build.items(["item_id"]).append_column(name, pa.array(np.arange(len(build))))
        for build, name in ((before, "before"), (after, "after"))
    )
    # Sorted, because a join gives its rows in any order.
    both = olds.join(news, keys="item_id", join_type="full outer").select(["after", "before"])
    both = both.sort_by([("after", "ascending"), ("before", "ascending")])
    return pc.fill_null(both["before"], -1).to_numpy(), pc.fill_null(both["after"], -1).to_numpy()


def _differs(
    before: Searcher, after: Searcher, column: str, rows_before: np.ndarray, rows_after: np.ndarray
) -> np.ndarray:
    """Whether a column's values differ, item by item; nothing equals nothing."""
    old, new = before.items([column])[column].take(rows_before), after.items([column])[column].take(rows_after)
    one_is_null = pc.xor(pc.is_null(old), pc.is_null(new))
    return pc.if_else(one_is_null, True, pc.fill_null(pc.not_equal(old, new), False)).to_numpy()


def _as_read(is_of: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which items both builds hold with all that the model reads as it was."""
    return ~np.logical_or.reduce([is_of[kind] for kind in ("came", "went", *_READ_BY_THE_MODEL)])


def _drift_by_category(
    before: Searcher, after: Searcher, rows_before: np.ndarray, rows_after: np.ndarray, places: np.ndarray
) -> dict[str, float]:
    if before.manifest.model_version != after.manifest.model_version:
        return {}
    places = np.sort(places[:_DRIFT_ITEMS])
    drifts = drift(before.vectors(rows_before[places]), after.vectors(rows_after[places]))
    categories = after.items(["category"])["category"].take(rows_after[places])
    by_category = pa.table({"category": pc.fill_null(categories, NO_CATEGORY), "drift": drifts}).group_by("category")
    return {row["category"]: row["drift_max"] for row in by_category.aggregate([("drift", "max")]).to_pylist()}


def moved_answers(
    answers: Sequence[Answer],
    before: Searcher,
    after: Searcher,
    *,
    vectors: Mapping[str, np.ndarray],
    results_per_query: int,
) -> dict[str, Moves]:
    """How answers differ from those of an earlier build, by query; answers to queries without a vector are left out.

    Args:
        answers: The later build's.
        before: The earlier build.
        after: The later build.
        vectors: Query -> its vector under the earlier build's model.
        results_per_query: How many results the answers have at most.
    """
    compared = [answer for answer in answers if answer.query.query in vectors]
    if not compared:
        return {}
    queries = [replace(answer.query, vector=vectors[answer.query.query]) for answer in compared]
    earlier = answer_queries(queries, before, results_per_query=results_per_query)
    ids_now = [[result.item.item_id for result in answer.results] for answer in compared]
    ids_before = [[result.item.item_id for result in answer.results] for answer in earlier]
    lost = [
        [result.item for result in answer.results if result.item.item_id not in now]
        for answer, now in zip(earlier, ids_now, strict=True)
    ]
    is_lost = pc.field("item_id").isin(pa.array([item.item_id for items in lost for item in items], pa.string()))
    still_there = set(after.items(["item_id"]).filter(is_lost)["item_id"].to_pylist())
    return {
        answer.query.query: Moves(
            came=[item_id for item_id in now if item_id not in was],
            lost=[LostItem(item, item.item_id not in still_there) for item in items],
        )
        for answer, now, was, items in zip(compared, ids_now, ids_before, lost, strict=True)
    }
