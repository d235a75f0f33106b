"""Whoever set up a webhook hears of every job that failed, and nobody else does."""

import json

import catalog_nightly
import pytest
from alerts import WEBHOOK, tell_late

from tests.chat import listening_chat
from tests.dags.runs import states_of

CONNECTION = f"AIRFLOW_CONN_{WEBHOOK.upper()}"


@pytest.fixture
def chat():
    with listening_chat() as server:
        yield server


def test_a_failed_job_is_told_once_with_its_last_words(submissions, chat, monkeypatch):
    monkeypatch.setenv(CONNECTION, json.dumps({"conn_type": "http", "host": chat.url, "password": "secret"}))
    submissions.fail("index/check")
    assert states_of(catalog_nightly)[0] == "failed"
    ((text, authorization),) = chat.posts
    first, *said, log = text.splitlines()
    assert first.startswith("catalog_nightly, manual__")
    assert first.endswith("index.check failed")
    assert said == ["index check            FAILED        1.0 s", "recall_at_10 is 0.9100, bound 0.9500"]
    assert log.startswith("log: http")
    assert authorization == "Bearer secret"


def test_a_night_that_went_well_is_not_told(submissions, chat, monkeypatch):
    monkeypatch.setenv(CONNECTION, json.dumps({"conn_type": "http", "host": chat.url}))
    submissions.skip("embedding/items")
    assert states_of(catalog_nightly)[0] == "success"
    assert chat.posts == []


def test_a_late_night_is_told_with_the_time_that_it_was_due(chat, monkeypatch):
    monkeypatch.setenv(CONNECTION, json.dumps({"conn_type": "http", "host": chat.url}))
    run = {"dag_id": "catalog_nightly", "dag_run_id": "scheduled__2026-11-20"}
    tell_late(context={"dag_run": run, "deadline": {"deadline_time": "2026-11-21T06:00:00Z"}})
    ((text, _),) = chat.posts
    assert text == "catalog_nightly, scheduled__2026-11-20: is late, was due at 2026-11-21T06:00:00Z"


def test_a_chat_that_does_not_answer_changes_nothing_of_the_night(submissions, monkeypatch):
    monkeypatch.setenv(CONNECTION, json.dumps({"conn_type": "http", "host": "http://127.0.0.1:9"}))
    submissions.fail("index/check")
    state, tasks = states_of(catalog_nightly)
    assert (state, tasks["operations.report"]) == ("failed", "success")
