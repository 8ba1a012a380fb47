"""A tiny app to stand behind nginx: it says what it was asked, streams, and fails when told."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any


class Upstream(http.server.ThreadingHTTPServer):
    """`/echo` answers with what came, `/stream` sends an event and waits for `more`, `/status/N` answers N."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.more = threading.Event()
        self.home = 200
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_: Any) -> None:
        self.more.set()
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Upstream
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer(self.server.home, b"home")
        elif self.path.startswith("/status/"):
            self._answer(int(self.path.rpartition("/")[2]), b"the app's own words")
        elif self.path.startswith("/stream"):
            self._stream()
        else:
            told = {"path": self.path, "headers": {key.lower(): value for key, value in self.headers.items()}}
            self._answer(200, json.dumps(told).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(200, b"posted")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: first\n\n")
        self.server.more.wait(60)
        self.wfile.write(b"data: second\n\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass
