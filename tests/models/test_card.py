"""The model card says what the run knows, and nothing else."""

import datetime as dt

from models.make.configuration_make import preset_config
from models.training.card import model_card
from models.training.settings import TrainSettings, settings_that_differ

METRICS = {"steps": 1936.0, "rows_read": 90930.0, "validation_recall_at_10": 0.4471}


def card_of(code_revision: str | None = None, **settings) -> str:
    of_run = TrainSettings(training_set="lake/training_sets/5f0c", output="x", date=dt.date(2026, 11, 14), **settings)
    return model_card(preset_config("tiny"), of_run, METRICS, train_rows=3031, code_revision=code_revision)


def test_a_card_has_the_set_its_size_the_date_the_seed_and_the_figures():
    card = card_of(seed=7)
    for fact in ("# MAKE, trained 2026-11-14", "`5f0c`, 3,031 products", "1,936", "90,930", "| seed | 7 |"):
        assert fact in card
    assert "| validation_recall_at_10 | 0.4471 |" in card
    assert "code revision | not known |" in card
    assert "code revision | `b113011` |" in card_of(code_revision="b113011")


def test_a_card_names_the_settings_that_are_not_the_defaults():
    assert "not the defaults: none." in card_of()
    own = card_of(max_minutes=14, overrides={"fusion": "mean"}, objectives={"query_photo_weight": 0.25}, threads=3)
    assert "`overrides.fusion=mean`, `max_minutes=14.0`, `objectives.query_photo_weight=0.25`." in own


def test_settings_of_another_release_can_still_be_told():
    assert settings_that_differ({"epochs": 20, "a_switch_of_old": True}) == {"a_switch_of_old": True}
