"""Every route of the app by every kind of visitor, against the table that the documents show; and what the words of the answers
may not tell.

The table says who is let in. It does not say that what is let in does the right thing: the other tests of the rooms do.
"""

from __future__ import annotations

import json
import re
import secrets
import zlib
from typing import Any

from tests.api.support import routes_of
from tests.jobs.support import a_request
from tests.security.access import IN, NEEDS, VISITORS, row_of
from tests.security.conftest import Run
from tests.security.support import House

PARAMETER = re.compile(r"\{(\w+)(:path)?\}")

BODIES: dict[str, dict[str, Any]] = {
    "/v1/jobs/{job_id}/place": {"place": 0},
    "/v1/jobs/{job_id}/priority": {"priority": 0},
    "/v1/images/{picture_id}/share": {"hours": 1},
    "/v1/queue/drain": {"seconds": 0},
    "/v1/users": {"name": "new", "password": "something long enough"},
    "/v1/users/{name}": {"jobs": 5},
    "/v1/account/password": {"old": "wrong", "new": "something long enough"},
    "/v1/tokens": {"name": "x", "scopes": ["read"]},
    "/v1/datasets/{name}/captions": {"file": "x.png", "caption": "x"},
    "/ui/send": {"picture": "PICTURE"},
    "/ui/like": {"picture": "PICTURE", "liked": True},
}
"""Where the route itself decides who may, its body has to be right. Everywhere else it is wrong, and nothing is drawn."""


def routes(app: Any) -> list[tuple[str, str]]:
    """Method and path of every route, Gradio's and those without a description included."""
    found = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    found |= {route for route in routes_of(app.routes) if not route[1].startswith("/images/")}
    return sorted(found | {("GET", "/healthz"), ("GET", "/readyz")})


def example_of(app: Any, method: str, path: str) -> dict[str, Any] | None:
    """The example body that the description has for a route."""
    told = app.openapi()
    body = told["paths"].get(path, {}).get(method.lower(), {}).get("requestBody", {}).get("content", {})
    schema = body.get("application/json", {}).get("schema", {})
    found = told["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {}).get("examples")
    return found[0] if found else None


def test_who_may_do_what(home: House, run: Run) -> None:
    async def visit() -> None:
        found, wrong = routes(home.app), []
        assert len(found) > 150
        for method, path in found:
            row = row_of(method, path)
            for name in VISITORS:
                status = await _status(home, method, path, name)
                wanted = NEEDS[row.need][name]
                if not _fits(status, wanted, path, owned="own" in row.need):
                    wrong.append(f"{method} {path} by {name}: {status}, not {wanted or 'let in'}")
        assert not wrong, "\n".join(wrong)

    run(visit())


def _fits(status: int, wanted: int, path: str, *, owned: bool) -> bool:
    if wanted != IN:
        return status == wanted
    return status not in ((401, 403, 404) if owned else (401, 403)) or path == "/login"


async def _status(home: House, method: str, path: str, name: str) -> int:
    if path in ("/healthz", "/readyz"):
        # The front door answers these before the app; without it they are no routes.
        return 200
    wanted = BODIES.get(path) or (example_of(home.app, method, path) if row_of(method, path).need == "train" else None)
    body = json.dumps(wanted or []).replace("PICTURE", home.things["picture"]).encode()
    home.logins.sessions.open("ann")
    things = {**home.things, "session_id": home.logins.sessions.of("ann")[0].id, "number": "0"}
    if path.startswith("/v1/users"):
        things["name"] = _spare(home) if (method, path) == ("DELETE", "/v1/users/{name}") else "ann"
    where = PARAMETER.sub(lambda match: things.get(match[1], "x"), path)
    # Wrong passwords are counted by address: each route comes from one of its own.
    address = f"203.0.113.{zlib.crc32(f'{path} {name}'.encode()) % 250}"
    sent = b"" if method in ("GET", "HEAD") else body
    answer = await home.ask(method, where, home.headers[name], sent, address)
    if home.service.paused:
        await home.service.resume()
    return answer.status


def _spare(home: House) -> str:
    """A user who may be taken away."""
    return home.logins.users.add(f"spare{secrets.token_hex(4)}").name


def test_nobody_learns_of_others(home: House, run: Run) -> None:
    """A word of one's prompt, one's name and one's ids are in no answer that another gets."""

    async def visit() -> None:
        word = "heliotrope"
        await home.service.pause()
        job = await home.service.submit(a_request(word, model=""), owner="ann")
        traces = [
            word,
            job.id,
            *(home.things[name] for name in ("job_id", "picture", "token_id", "name")),
        ]
        looked = 0
        for method, path in routes(home.app):
            if method != "GET" or path.startswith("/gradio_api/") or "{" in path:
                continue
            for name in ("nobody", "other", "program"):
                answer = await home.ask(method, path, home.headers[name])
                told = [trace for trace in traces if trace.encode() in answer.body]
                assert not told, (path, name, told)
                looked += 1
        assert looked > 100
        mine = await home.ask("GET", "/v1/queue", home.headers["owner"])
        assert job.id in mine.body.decode()
        for_all = (await home.ask("GET", "/v1/queue", home.headers["admin"])).json()
        assert [row["owner"] for row in for_all["jobs"]] == ["ann"]
        assert word not in json.dumps(for_all)
        await home.service.resume()

    run(visit())


def test_nobody_stops_others(home: House, run: Run) -> None:
    async def visit() -> None:
        await home.service.pause()
        job = await home.service.submit(a_request(model=""), owner="ann")
        for name in ("other", "program", "admin"):
            for path in ("/sdapi/v1/interrupt", "/sdapi/v1/skip"):
                assert (await home.ask("POST", path, home.headers[name])).status == 200
            progress = (await home.ask("GET", "/sdapi/v1/progress", home.headers[name])).json()
            assert progress["state"]["job_count"] == 0
            told = await home.ask(
                "POST", "/internal/progress", home.headers[name], json.dumps({"id_task": job.id}).encode()
            )
            assert told.json()["queued"] is False
        for name in ("other", "program"):
            assert (await home.ask("DELETE", f"/v1/jobs/{job.id}", home.headers[name])).status == 404
        assert home.service.get(job.id).state == "queued"
        assert (await home.ask("DELETE", f"/v1/jobs/{job.id}", home.headers["admin"])).status == 200
        assert home.service.get(job.id).state == "cancelled"
        await home.service.resume()

    run(visit())
