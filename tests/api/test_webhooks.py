"""Webhooks: told when a job is over, again after a failure and after a restart; never by default, never in a private network."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from danqing.api import webhooks
from danqing.api.jobs import told
from danqing.api.webhooks import Hooked, Webhooks
from danqing.app import load_settings
from danqing.errors import DanqingError
from danqing.jobs.service import JobService
from tests.api.conftest import FAKE
from tests.api.test_jobs import JOB
from tests.conftest import Server, start_server
from tests.jobs.support import a_request, make_service


@dataclass
class Receiver:
    """Somebody's server. It answers the statuses one after the other, the last one for ever."""

    url: str
    statuses: list[int]
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    pause: float = 0.0
    """Seconds before it answers."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            here.got.append(({key.lower(): value for key, value in self.headers.items()}, body))
            time.sleep(here.pause)
            self.send_response(here.statuses.pop(0) if len(here.statuses) > 1 else here.statuses[0])
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = Receiver(f"http://127.0.0.1:{server.server_port}/hook?key=1", [200])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield here
    server.shutdown()


@asynccontextmanager
async def serving(data: Path, **more: Any) -> AsyncIterator[tuple[JobService, Webhooks]]:
    """A queue with webhooks, to which every address counts as public."""
    service = make_service(data, **more)
    await service.start()
    hooks = Webhooks(service, load_settings(data, {"webhooks": True}), lambda view: told(view, "en"), lambda _: True)
    async with hooks.running():
        yield service, hooks
    await service.stop()


async def submitted(service: JobService, hooks: Webhooks, job_id: str, wish: Hooked) -> None:
    async with hooks.promised(job_id, wish):
        await service.submit(a_request(), owner="ann", job_id=job_id)


async def until_told(receiver: Receiver, count: int = 1) -> None:
    async with asyncio.timeout(30):
        while len(receiver.got) < count:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_told_once_with_a_signature(tmp_path: Path, receiver: Receiver, pause: float) -> None:
    """Also where the server stops between the telling and the answer."""
    receiver.pause = pause

    async def work() -> None:
        async with serving(tmp_path / "data") as (service, hooks):
            await submitted(service, hooks, "a" * 32, Hooked(webhook=receiver.url, webhook_secret="key"))
            await until_told(receiver)
        async with serving(tmp_path / "data"):
            await asyncio.sleep(0.2)

    asyncio.run(work())
    ((headers, body),) = receiver.got
    job = json.loads(body)
    assert (job["id"], job["state"], len(job["images"])) == ("a" * 32, "done", 1)
    assert headers["content-type"] == "application/json"
    assert headers["x-danqing-signature"] == "sha256=" + hmac.new(b"key", body, hashlib.sha256).hexdigest()


def test_told_again_after_a_failure(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "WAITS", (0.05, 0.05))
    receiver.statuses = [500, 302, 204]

    async def work() -> None:
        async with serving(tmp_path / "data") as (service, hooks):
            await submitted(service, hooks, "b" * 32, Hooked(webhook=receiver.url))
            await until_told(receiver, 3)

    asyncio.run(work())
    assert len({body for _, body in receiver.got}) == 1
    assert "x-danqing-signature" not in receiver.got[0][0]


def test_given_up_at_last(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "WAITS", (0.02,))
    receiver.statuses = [500]

    async def work() -> None:
        async with serving(tmp_path / "data") as (service, hooks):
            await submitted(service, hooks, "c" * 32, Hooked(webhook=receiver.url))
            await until_told(receiver, 2)
            await asyncio.sleep(0.2)
            assert service.get("c" * 32).pictures

    asyncio.run(work())
    assert len(receiver.got) == 2


def test_what_was_not_told_is_told_after_the_next_start(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "WAITS", (0.3, 0.3))
    receiver.statuses = [503, 200]

    async def work() -> None:
        async with serving(tmp_path / "data") as (service, hooks):
            await submitted(service, hooks, "d" * 32, Hooked(webhook=receiver.url))
            await until_told(receiver)
        async with serving(tmp_path / "data"):
            await until_told(receiver, 2)

    asyncio.run(work())
    assert json.loads(receiver.got[1][1])["id"] == "d" * 32


def test_a_job_that_was_refused_is_not_promised(tmp_path: Path, receiver: Receiver) -> None:
    async def work() -> None:
        async with serving(tmp_path / "data") as (_, hooks):
            with pytest.raises(DanqingError, match="no job"):
                async with hooks.promised("e" * 32, Hooked(webhook=receiver.url)):
                    raise DanqingError("unknown_job", job="e" * 32)
            assert hooks.promises() == 0

    asyncio.run(work())
    assert receiver.got == []


def test_off_by_default(quick_server: Server) -> None:
    answer = quick_server.client().post("/v1/jobs", json={**JOB, "webhook": "https://example.org/"})
    assert (answer.status_code, answer.json()["error"]) == (403, "WebhooksOff")


def test_private_addresses_are_refused(tmp_path: Path) -> None:
    more = {"DANQING_ENGINE_COMMAND": FAKE, "DANQING_WEBHOOKS": "true"}
    server = start_server(tmp_path / "data", environment=more)
    try:
        with server.client() as client:
            urls = [
                "http://127.0.0.1:9/",
                "http://169.254.169.254/latest/",
                "http://[::ffff:10.0.0.1]/",
                "ftp://example.org/",
            ]
            urls += ["http://localhost/", "http://user:word@8.8.8.8/", "no address", "http://0x7f000001/"]
            for url in urls:
                answer = client.post("/v1/jobs", json={**JOB, "webhook": url})
                assert (answer.status_code, answer.json()["error"]) == (422, "WebhookRefused"), url
            assert client.get("/v1/jobs").json()["jobs"] == []
    finally:
        server.stop()
