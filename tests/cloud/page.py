"""A stand-in for a box's page: /readyz says what it is told to say, one answer after another, the last one for ever."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STARTING = (503, {"ready": False, "phases": [{"name": "torch", "state": "running", "seconds": 1.0}]})
READY = (
    200,
    {
        "ready": True,
        "phases": [
            {"name": "torch", "state": "done", "seconds": 4.5},
            {"name": "model", "state": "done", "seconds": 2.0},
        ],
    },
)


@contextlib.contextmanager
def box(*answers: tuple[int, dict[str, Any]]) -> Iterator[str]:
    """host:port of the page."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, told = left[0] if len(left) == 1 else left.pop(0)
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
