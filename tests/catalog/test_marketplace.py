"""The made-up marketplace: photos tell what titles leave out, and every item follows from the seed and its number."""

import datetime as dt
import io

import numpy as np
import pytest
from PIL import Image

from jobs.catalog.marketplace.photos import SIZE, draw_card, draw_photo
from jobs.catalog.marketplace.products import FIRST_DAY, SECOND_DAY, Marketplace
from jobs.catalog.marketplace.queries import draw_want, is_judged, judged_wants, phrase, type_in
from jobs.catalog.marketplace.shoppers import Log, Shelf
from jobs.catalog.marketplace.vocabulary import ATTRIBUTES, COLOURS, JUNK_QUERIES, KINDS

MARKET = Marketplace(seed=7, items=2_000, first_date=dt.date(2026, 11, 20))


def pixels(number):
    product = MARKET.truth(np.array([number])).iloc[0].to_dict()
    image = Image.open(io.BytesIO(draw_photo(product, MARKET.generator("photo 0", number))))
    return product, np.asarray(image.convert("RGB"), float)


@pytest.fixture(scope="module")
def drawn():
    """300 photos: products, and pixels (300, SIZE, SIZE, 3)."""
    products, images = zip(*(pixels(number) for number in range(300)), strict=True)
    return products, np.stack(images)


def test_the_photo_tells_the_colour(drawn):
    products, images = drawn
    middle = images[:, SIZE // 2 - 20 : SIZE // 2 + 20, SIZE // 2 - 20 : SIZE // 2 + 20].reshape(len(images), -1, 3)
    dyes = np.array([colour.rgb for colour in COLOURS], float)
    nearest = np.argmin(((np.median(middle, axis=1)[:, None] - dyes) ** 2).sum(axis=2), axis=1)
    right = np.mean(nearest == np.array([product["colour"] for product in products]))
    assert right > 0.75, f"the nearest dye to the middle of the photo is right for {right:.0%}; by chance it is 8%"


def test_the_photo_tells_the_kind(drawn):
    products, images = drawn
    kinds = np.array([product["kind"] for product in products])
    edges = np.abs(np.diff(images.mean(axis=3), axis=1))[:, ::4, ::4].reshape(len(images), -1)
    silhouettes = np.minimum(edges.reshape(len(images), -1), 40)
    train, test = np.arange(len(images)) < 240, np.arange(len(images)) >= 240
    centres = np.stack([silhouettes[train & (kinds == kind)].mean(axis=0) for kind in range(len(KINDS))])
    guessed = np.argmin(((silhouettes[test][:, None] - centres) ** 2).sum(axis=2), axis=1)
    assert np.mean(guessed == kinds[test]) > 0.3, "outlines alone should beat chance (8%) by far"


def says(title, colour):
    return any(word.lower() in title.lower() for word in (*COLOURS[colour].sellers, COLOURS[colour].chinese))


def test_many_titles_are_silent_about_the_colour_and_only_where_the_photo_shows_it():
    numbers = np.arange(MARKET.items)
    rows = MARKET.catalog_rows(numbers, FIRST_DAY).dropna(subset="item_id").drop_duplicates("item_id", keep="last")
    listing, truth = MARKET.listing(numbers, FIRST_DAY), MARKET.truth(numbers)
    titled = rows[rows["title"].str.strip() != ""]
    at = titled["item_id"].str[1:].astype(int).to_numpy()
    silent = np.array(
        [not says(title, colour) for title, colour in zip(titled["title"], truth["colour"].to_numpy()[at], strict=True)]
    )
    shown = (listing["photo"] == "shown").to_numpy()[at]
    assert 0.3 < silent[shown].mean() < 0.45
    assert not silent[~shown].any()


def test_an_item_does_not_depend_on_which_others_are_made_with_it():
    together = MARKET.catalog_rows(np.arange(100), SECOND_DAY).set_index("item_id")
    alone = MARKET.catalog_rows(np.array([42]), SECOND_DAY).set_index("item_id")
    assert together.loc["P0000042"].equals(alone.loc["P0000042"])
    assert Marketplace(8, 2_000, MARKET.first_date).truth(np.arange(9)).ne(MARKET.truth(np.arange(9))).any(axis=None)


def test_the_second_day_changes_a_few_items_in_every_way():
    numbers = np.arange(MARKET.all_items)
    first, second = (MARKET.listing(numbers, day) for day in (FIRST_DAY, SECOND_DAY))
    both = first["listed"] & second["listed"]
    ways = {
        "new": ~first["listed"],
        "delisted": ~second["listed"],
        "retitled": both & (first["title_version"] != second["title_version"]),
        "another photo": both & (first["photo_version"] != second["photo_version"]),
        "another photo name": both & (first["photo_name"] != second["photo_name"]),
        "broken": both & (first["photo"] != "truncated") & (second["photo"] == "truncated"),
        "repriced": both & (first["price_version"] != second["price_version"]),
        "sold out": both & first["in_stock"] & ~second["in_stock"],
    }
    shares = {way: changed.mean() for way, changed in ways.items()}
    assert all(0.003 < share < 0.06 for share in shares.values()), shares


def test_most_items_are_in_stock():
    rows = MARKET.catalog_rows(np.arange(MARKET.items), FIRST_DAY)
    assert 0.88 < rows["in_stock"].mean() < 0.96


def test_cards_with_one_text_are_the_same_file():
    assert draw_card("photo soon", 0) == draw_card("photo soon", 3) != draw_card("photo soon", 1)


def test_no_shopper_of_the_log_asks_for_a_judged_kind_in_a_judged_colour():
    rng = np.random.default_rng(0)
    wants = [draw_want(MARKET, rng) for _ in range(300)]
    assert not any("colour" in want and is_judged(MARKET, want["kind"], want["colour"])[0] for want in wants)
    assert all(is_judged(MARKET, want["kind"], want["colour"])[0] for want in judged_wants(MARKET))


def test_a_query_names_what_is_wanted_in_latin_or_chinese():
    rng = np.random.default_rng(0)
    want = {"kind": 3, "colour": 0}
    queries = {phrase(want, rng) for _ in range(200)}
    assert {"red dress", "dress red", "红色连衣裙"} <= queries
    assert all(any(word in query for word in (*KINDS[3].shoppers, KINDS[3].chinese)) for query in queries)
    typed = {type_in("red dress", rng) for _ in range(500)}
    assert {"red dress", "RED DRESS", "  red  dress ", "ｒｅｄ ｄｒｅｓｓ"} <= typed
    assert any(sorted(query) != sorted("red dress") and query.islower() for query in typed), "some are misspelt"


@pytest.fixture(scope="module")
def events():
    shelves = {day: Shelf.of(MARKET, day) for day in (FIRST_DAY, SECOND_DAY)}
    return Log(MARKET, sessions=3_000, days=7).events(np.arange(3_000), shelves)


def test_the_log_covers_the_window_and_the_day_after(events):
    days = events["event_ts"].dt.date.value_counts()
    expected = {MARKET.first_date + dt.timedelta(days=day) for day in range(-6, 2)}
    assert expected <= set(days.index)
    assert all(days[day] > 100 for day in expected)


def test_shoppers_click_what_they_want_and_what_stands_high(events):
    people = events[~events["session_id"].str.contains("robot")]
    count = people.groupby(["position", "event_type"]).size().unstack(fill_value=0)
    rate = (count["click"] / count["impression"]).to_numpy()
    assert rate[0] > 2 * rate[4] > 2 * rate[9]
    assert 0 < (people["event_type"] == "purchase").sum() < (people["event_type"] == "click").sum() / 3


def test_the_log_is_dirty_in_every_way_that_an_ingest_must_handle(events):
    assert events["event_id"].duplicated().any(), "repeated deliveries"
    junk = events["query"].isna() | events["query"].isin(JUNK_QUERIES)
    assert events.loc[junk, "query"].nunique(dropna=False) >= 3, "junk and empty queries"
    assert (events["event_ts"].dt.date > MARKET.first_date + dt.timedelta(days=2)).any(), "clocks that run ahead"
    assert events["item_id"].str.startswith("P-gone").any(), "unknown items"
    robots = events[events["session_id"].str.contains("robot")]
    assert set(robots["event_type"]) == {"click"} and robots.groupby("session_id").size().min() >= 100, "robots"


def test_on_the_second_day_shoppers_find_new_items_and_no_delisted_ones():
    shelf = Shelf.of(MARKET, SECOND_DAY)
    assert (shelf.numbers >= MARKET.items).any()
    gone = ~MARKET.listing(np.arange(MARKET.items), SECOND_DAY)["listed"].to_numpy()
    assert gone.any() and not np.isin(np.flatnonzero(gone), shelf.numbers).any()


def test_every_attribute_has_words_for_sellers_shoppers_and_chinese():
    for terms in ATTRIBUTES.values():
        assert all(term.sellers and term.shoppers and term.chinese for term in terms)
        assert len({term.name for term in terms}) == len(terms)
