"""Pictures by address, where they are allowed (SSRF, as InvokeAI 6.13.8 closed it): addresses of the inside, names that change
their meaning, redirects, floods."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from danqing.api import remote
from danqing.errors import DanqingError
from tests.security.support import png

INSIDE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "2002:a9fe:a9fe::1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "::a9fe:a9fe",
    "::ffff:0:a9fe:a9fe",
    "fec0::1",
    "192.0.0.8",
    "x",
]


@pytest.mark.parametrize("address", INSIDE)
def test_no_picture_is_fetched_from_inside(address: str) -> None:
    with pytest.raises(DanqingError) as caught:
        remote.fetched("http://picture.example/x.png", lambda host, port: ["93.184.215.14", address])
    assert caught.value.code == "url_refused"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "http://2130706433/x",
        "http://0x7f.1/x",
        "http://localhost/x",
        "http://[::1]/x",
        "http://user@93.184.215.14/x",
        "http://93.184.215.14:22/x",
        "http://93.184.215.14:99999/x",
        "ftp://93.184.215.14/x",
        "file:///etc/passwd",
        "http:///x",
        "http://a\nb/x",
    ],
)
def test_addresses_that_are_not_fetched(url: str) -> None:
    with pytest.raises(DanqingError) as caught:
        remote.fetched(url)
    assert caught.value.code == "url_refused"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """A web server here that counts as outside, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        pages: ClassVar[dict[str, bytes]] = {"/ok.png": png()}

        def do_GET(self) -> None:
            asked.append(f"{self.headers['host']}{self.path}")
            body = self.pages.get(self.path, b"x" * 100)
            self.send_response(302 if self.path == "/away" else 200)
            self.send_header("Location", "http://127.0.0.1/secret")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setitem(remote.PORTS, "http", server.server_port)
    monkeypatch.setattr(remote, "is_public", lambda address: address == "127.0.0.1")
    yield "http://picture.example", asked
    server.shutdown()
    server.server_close()


def test_a_name_is_looked_up_once(site: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the second answer would be another machine."""
    base, asked = site
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    assert remote.fetched(f"{base}/ok.png", lambda host, port: answers.pop(0)) == png()
    assert len(answers) == 1
    assert asked[0].startswith("picture.example")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked up again"))


def test_no_redirect_and_no_flood(site: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    base, asked = site
    for path, limit in (("/away", 2**20), ("/long", 50)):
        monkeypatch.setattr(remote, "BYTES", limit)
        with pytest.raises(DanqingError) as caught:
            remote.fetched(base + path, lambda host, port: ["127.0.0.1"])
        assert caught.value.code == "url_refused"
    assert len(asked) == 2


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"\x16"]
)
def test_a_server_that_never_comes_to_an_end_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, scheme: str, greeting: bytes
) -> None:
    """A byte now and then, in the handshake, the head or the body: every read is short, the whole would last for ever."""
    monkeypatch.setattr(remote, "SECONDS", 0.3)
    monkeypatch.setattr(remote, "is_public", lambda address: address == "127.0.0.1")
    gone = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setitem(remote.PORTS, scheme, listener.getsockname()[1])

        def drip() -> None:
            there, _ = listener.accept()
            with there, contextlib.suppress(OSError):
                there.sendall(greeting)
                while not gone.wait(0.02):
                    there.sendall(b"x")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(DanqingError) as caught:
            remote.fetched(f"{scheme}://picture.example/x.png", lambda host, port: ["127.0.0.1"])
        gone.set()
        thread.join()
    assert caught.value.code == "url_refused"
    if scheme == "http" and greeting[:1] == b"H":
        assert caught.value.params["reason"] == "it takes too long"
