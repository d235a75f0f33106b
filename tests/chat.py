"""A chat's webhook that keeps what was posted to it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Chat(ThreadingHTTPServer):
    """Keeps texts, each with its header Authorization."""

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


@contextmanager
def listening_chat() -> Iterator[Chat]:
    """A chat while the block runs."""
    chat = Chat()
    thread = threading.Thread(target=chat.serve_forever)
    thread.start()
    try:
        yield chat
    finally:
        chat.shutdown()
        thread.join()
        chat.server_close()
