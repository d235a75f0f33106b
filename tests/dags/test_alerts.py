"""Whoever set up a webhook hears of every job that failed, and nobody else does."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import catalog_nightly
import pytest
from alerts import WEBHOOK

from tests.dags.runs import states_of

CONNECTION = f"AIRFLOW_CONN_{WEBHOOK.upper()}"


class Chat(HTTPServer):
    """A chat's webhook: keeps what was posted, with the headers."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), _Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks/nights"


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((json.loads(body)["text"], self.headers["Authorization"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def chat():
    server = Chat()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


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


def test_a_chat_that_does_not_answer_changes_nothing_of_the_night(submissions, monkeypatch):
    monkeypatch.setenv(CONNECTION, json.dumps({"conn_type": "http", "host": "http://127.0.0.1:9"}))
    submissions.fail("index/check")
    state, tasks = states_of(catalog_nightly)
    assert (state, tasks["operations.report"]) == ("failed", "success")
