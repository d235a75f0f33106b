from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import modalities
from benchmarks.modalities import SHOWS_NOTHING, area_under_curve, interval, mean_difference, read_labels

values = st.lists(st.integers(0, 5), min_size=1, max_size=8)


@given(values, values)
def test_the_area_is_the_share_of_pairs_in_order(higher, lower):
    pairs = [(left > right) + (left == right) / 2 for left in higher for right in lower]
    assert area_under_curve(np.array([higher]), np.array([lower])) == pytest.approx(sum(pairs) / len(pairs))


def test_the_area_of_several_models_is_the_mean_of_theirs():
    higher, lower = np.array([[3, 4], [1, 2]]), np.array([[1, 2], [3, 4]])
    assert [area_under_curve(higher[[n]], lower[[n]]) for n in range(2)] == [1.0, 0.0]
    assert area_under_curve(higher, lower) == 0.5


def test_products_are_drawn_alike_for_all_models():
    """Two models that err in opposite directions have a mean that never errs."""
    error = np.random.default_rng(0).normal(size=(1, 50))
    higher, lower = 1 + np.concatenate([error, -error]), np.concatenate([-error, error])
    assert interval(mean_difference, higher, lower) == pytest.approx((1.0, 1.0))
    low, high = interval(mean_difference, higher[:1], lower[:1])
    assert high - low > 0.4


def test_the_interval_holds_the_area_and_is_wider_for_fewer():
    random = np.random.default_rng(0)
    widths = []
    for size in (20, 500):
        higher, lower = random.normal(1, 1, (1, size)), random.normal(0, 1, (1, size))
        low, high = interval(area_under_curve, higher, lower)
        assert low < area_under_curve(higher, lower) < high
        widths.append(high - low)
    assert widths[0] > 3 * widths[1]


def test_the_labelled_products_are_those_that_the_seed_draws(fashion):
    items = pq.read_table(fashion / "catalog.parquet", columns=["item_id", "image_uri"]).to_pylist()
    with_photo = sorted(item["item_id"] for item in items if item["image_uri"])
    drawn = np.random.default_rng(20261121).choice(len(with_photo), 600, replace=False)
    labels = read_labels()
    assert set(labels) == {with_photo[place] for place in drawn}
    assert set(Counter(photo for photo, _ in labels.values())) == {"product", *SHOWS_NOTHING, "unreadable"}
    assert set(Counter(title for _, title in labels.values())) == {"plain", "stuffed"}


def test_a_model_is_measured_on_the_labelled_items(inputs, model_folder, tmp_path, monkeypatch, capsys):
    labels = ["item_id,photo,title"]
    for number, garment in enumerate(["dress", "shirt", "shoes", "hat"] * 2):
        kind = "product" if number < 4 else SHOWS_NOTHING[number % 3]
        labels.append(f"{'green' if number < 4 else 'white'}-{garment}-1,{kind},{'stuffed' if number % 2 else 'plain'}")
    (tmp_path / "products.csv").write_text("\n".join(labels) + "\n")
    monkeypatch.setattr(modalities, "LABELS", tmp_path / "products.csv")
    options = {"models": f"{model_folder},{model_folder}", "catalog": inputs["catalog"], "images": inputs["images"]}
    modalities.main([part for name, value in options.items() for part in (f"--{name}", str(value))])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 photos show the product, 4 a card, a chart or a banner"
    named = [line.split(":")[0] for line in (*lines[1:3], *lines[4:])]
    assert named == ["image_weight", "photo_effect", "title_weight", "title_weight"]
    assert "banner 0." in lines[1]
    (tmp_path / "products.csv").write_text("item_id,photo,title\nof-another-catalog,product,plain\n")
    with pytest.raises(ValueError, match="lacks 1 labelled items, such as of-another-catalog"):
        modalities.main([part for name, value in options.items() for part in (f"--{name}", str(value))])
