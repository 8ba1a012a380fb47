"""The whole app in this process, with users, things that belong to one of them, and a client that speaks ASGI."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from PIL import Image

from danqing.api.auth import Logins, WithMachine
from danqing.api.users import Users
from danqing.app import build, load_settings, rooms
from danqing.jobs.service import JobService
from tests.api.conftest import FAKE
from tests.jobs.support import a_request

HOST = "danqing.example"
PASSWORD = "correct horse battery"
LIGHT = partial(PasswordHasher, time_cost=1, memory_cost=64, parallelism=1)
"""Argon2 as little as it can be: what it costs is not what is looked at here."""

WAIT = 5.0
"""Seconds until a stream counts as one that was let in."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class House:
    """A running app; `headers` by visitor, `things` of the owner by the names of path parameters."""

    app: Any
    data: Path
    service: JobService
    logins: Logins
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    things: dict[str, str] = field(default_factory=dict)

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] = {}, body: bytes = b"", address: str = "203.0.113.9"
    ) -> Answer:
        """One request; what has not begun to end after `WAIT` seconds is cut off with what came so far."""
        sent = {"content-type": "application/json", **headers} if body else headers
        return await _asked(self.app, self.scope(method, path, sent, address), body)

    def scope(
        self, method: str, path: str, headers: Mapping[str, str] = {}, address: str = "203.0.113.9"
    ) -> dict[str, Any]:
        """A request as ASGI tells it."""
        path, _, query = path.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in {"host": HOST, **headers}.items()],
            "client": (address, 1),
            "server": (HOST, 80),
            "state": {},
        }


async def _asked(app: Any, scope: dict[str, Any], body: bytes) -> Answer:
    answer, over = Answer(0, {}, b""), asyncio.Event()
    told = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if told:
            return told.pop()
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            if "event-stream" in answer.headers.get("content-type", ""):
                over.set()
        if message["type"] == "http.response.body":
            answer.body += message.get("body", b"")
            if not message.get("more_body"):
                over.set()

    task = asyncio.ensure_future(app(scope, receive, send))
    watch = asyncio.ensure_future(over.wait())
    await asyncio.wait({task, watch}, timeout=WAIT, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
    watch.cancel()
    results = await asyncio.gather(task, watch, return_exceptions=True)
    if answer.status == 0 and isinstance(results[0], Exception):
        raise results[0]
    return answer


def basic(name: str, password: str = PASSWORD) -> dict[str, str]:
    pair = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"authorization": f"Basic {pair}"}


def png(size: tuple[int, int] = (16, 16)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "teal").save(out, "PNG")
    return out.getvalue()


@asynccontextmanager
async def house(data: Path, **settings: object) -> AsyncIterator[House]:
    """An app that asks for a login, with the users `ann` (owner), `bob` (other), `pat` (program) and `admin`."""
    # The peer of these requests is not asked for more than a person could send.
    values = {"engine_command": FAKE, "limit_requests_a_second": 0.0, "disk_reserve_mb": 0, **settings}
    chosen = load_settings(data, values)
    library, service = rooms(data, chosen)
    users = Users(data)
    users._hasher = LIGHT()
    for name, role in (("ann", "artist"), ("bob", "artist"), ("pat", "api")):
        users.add(name, role, PASSWORD)
    users.set_password("admin", PASSWORD)
    logins = Logins.at(data, chosen, WithMachine(users, data), HOST, users)
    await service.start()
    try:
        app = build(service, library, chosen, logins)
        async with app.router.lifespan_context(app):
            yield House(app, data, service, logins)
    finally:
        await service.stop()
        users.close()


async def furnish(house: House) -> None:
    """Visitors, and a job, a picture, an input picture, a session, a token and a link of `ann`'s."""
    logins, service = house.logins, house.service
    tokens = {scope: logins.tokens.new(scope, [scope], "ann")[0] for scope in ("read", "draw")}
    tokens["metrics"] = logins.tokens.new("metrics", ["metrics"], "admin")[0]
    house.headers = {
        "nobody": {},
        **{scope: {"authorization": f"Bearer {text}"} for scope, text in tokens.items()},
        "program": basic("pat"),
        "other": basic("bob"),
        "admin": basic("admin"),
        "owner": basic("ann"),
    }
    job = await service.submit(a_request(model=""), owner="ann")
    done = await service.wait(job.id)
    kept = await house.ask("POST", "/ui/inputs", house.headers["owner"], png())
    house.things = {
        "job_id": job.id,
        "picture_id": done.pictures[0],
        "picture": done.pictures[0],
        "name": kept.json()["name"],
        "token_id": logins.tokens.new("spare", ["read"], "ann")[1].id,
    }
    shared = await house.ask("POST", f"/v1/images/{done.pictures[0]}/share", house.headers["owner"], b'{"hours": 1}')
    house.things["secret"] = shared.json()["path"].rpartition("/")[2]
