"""A machine below a temporary folder, and a metadata service that answers IMDSv2 only."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from danqing.box import cli
from danqing.box.places import Places

TOKEN = "the-token"


@dataclass
class Service:
    """What the metadata service knows: path below /latest/ → text."""

    url: str
    known: dict[str, str] = field(default_factory=dict)
    plain: int = 0
    """Requests without a token; IMDSv1 asks so."""
    token: str = TOKEN
    failing: bool = False
    """No token is given out, as under load."""


@pytest.fixture
def imds() -> Iterator[Service]:
    service = Service("")

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            asked = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")
            status = 503 if service.failing else 200 if self.path == "/latest/api/token" and asked else 400
            self._answer(status, service.token)

        def do_GET(self) -> None:
            if self.headers.get("X-aws-ec2-metadata-token") != service.token:
                service.plain += 1
                self._answer(401, "")
                return
            text = service.known.get(self.path.removeprefix("/latest/"))
            self._answer(200 if text is not None else 404, text or "")

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    yield service
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A machine that is no EC2 machine and has nothing yet."""
    for name in [name for name in os.environ if name.startswith("DANQING_") and "THREADS" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DANQING_BOX_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("DANQING_METADATA", "http://127.0.0.1:9")
    monkeypatch.setenv("DANQING_BOX_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DANQING_BOX_DATA_VOLUME", "none")
    monkeypatch.setenv("LC_ALL", "C")
    return Places.here()


def box(*words: str, typed: str | None = None) -> Result:
    """Run `danqing box …` in this process."""
    return CliRunner().invoke(cli.app, words, input=typed)


def well(*words: str) -> str:
    """Output of a command that must succeed."""
    done = box(*words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
