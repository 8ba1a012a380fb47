"""Hosts, origins, proxies, headers, and Gradio's file routes."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import httpx
import pytest

from danqing.api import doors
from danqing.api.auth import AdminAccount, Logins
from danqing.api.guard import same_host
from danqing.app import build, load_settings, rooms
from tests.api.support import SMALL, assert_four_keys
from tests.conftest import Server

OPTIONS = "/sdapi/v1/options"


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.mark.parametrize(
    "origin",
    ["http://evil.com", "null", "https://localhost.evil.com", "file://", "x", "http://127.0.0.1:1", "http://é"],
)
@pytest.mark.parametrize("path", [OPTIONS, "/gradio_api/queue/join", "/gradio_api/upload", "/login", "/no/such"])
def test_foreign_origins_change_nothing(client: httpx.Client, origin: str, path: str) -> None:
    answer = client.post(path, json={}, headers={"Origin": origin.encode("utf-8")})
    assert assert_four_keys(answer, 403)["error"] == "WrongOrigin"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_browser_that_hides_the_origin(client: httpx.Client, site: str) -> None:
    assert client.post(OPTIONS, json={}, headers={"Sec-Fetch-Site": site}).status_code == 403


def test_own_origin_and_programs_pass(client: httpx.Client, server: Server) -> None:
    assert client.post(OPTIONS, json={}).status_code == 200
    assert client.post(OPTIONS, json={}, headers={"Origin": server.base_url}).status_code == 200
    named = {"Host": f"localhost:{server.port}", "Origin": f"http://localhost:{server.port}"}
    assert client.post(OPTIONS, json={}, headers=named).status_code == 200


@pytest.mark.parametrize(
    ("one", "other", "scheme", "same"),
    [
        ("a.b", "a.b", "https", True),
        ("a.b:443", "a.b", "https", True),
        ("a.b", "A.B:80", "http", True),
        ("a.b:80", "a.b", "https", False),
        ("a.b:7860", "a.b", "http", False),
        ("", "", "http", False),
    ],
)
def test_same_host(one: str, other: str, scheme: str, same: bool) -> None:
    assert same_host(one, other, scheme) is same


@pytest.mark.parametrize("path", ["/", OPTIONS, "/config", "/pictures/x", "/metrics"])
@pytest.mark.parametrize("host", ["evil.com", "evil.com:7860", "127.0.0.1.evil.com", "localhost.", ""])
def test_foreign_hosts_see_nothing(client: httpx.Client, path: str, host: str) -> None:
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 400
    assert "danqing" not in answer.text.lower() or "host" in answer.text


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:99", "[::1]:7860", "LOCALHOST:1"])
def test_own_hosts_pass(client: httpx.Client, host: str) -> None:
    assert client.get(OPTIONS, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
def test_without_a_login_nobody_comes_through_a_proxy(client: httpx.Client, server: Server, header: str) -> None:
    answer = client.get(OPTIONS, headers={header: "for=1.2.3.4"})
    assert assert_four_keys(answer, 403)["error"] == "Proxied"


def test_no_other_site_may_read(client: httpx.Client) -> None:
    for path in (OPTIONS, "/config", "/gradio_api/info"):
        answer = client.get(path, headers={"Origin": "https://evil.com"})
        assert "access-control-allow-origin" not in answer.headers
    asked = {"Origin": "https://evil.com", "Access-Control-Request-Method": "POST"}
    assert client.options(OPTIONS, headers=asked).status_code == 400


@pytest.mark.parametrize("path", ["/", OPTIONS, "/no/such", "/healthz", "/metrics"])
def test_headers(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors" in headers["content-security-policy"]
    assert headers["referrer-policy"]
    assert "server" not in headers


def test_pictures(client: httpx.Client, server: Server) -> None:
    client.post("/sdapi/v1/txt2img", json=SMALL)
    with closing(connect(f"file:{server.data}/danqing.db?mode=ro", uri=True)) as database:
        (picture,) = database.execute("SELECT id FROM picture WHERE complete = 1 LIMIT 1").fetchone()
    answer = client.get(f"/pictures/{picture}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-disposition"].startswith("inline")
    saved = client.get(f"/pictures/{picture}?download=1")
    assert saved.headers["content-disposition"].startswith("attachment")
    assert saved.content == answer.content


PASSWD = "/etc/passwd"


@pytest.mark.parametrize(
    "path",
    [
        f"/gradio_api/file={PASSWD}",
        f"/file={PASSWD}",
        f"/gradio_api/file/{PASSWD}",
        f"/gradio_api/file=..{PASSWD}",
        "/gradio_api/file=/proc/self/environ",
        f"/gradio_api/file=file://{PASSWD}",
        f"/gradio_api/proxy=http://127.0.0.1{PASSWD}",
        f"/proxy=file://{PASSWD}",
        f"/static/../../../../../..{PASSWD}",
        f"/assets/..%2f..%2f..%2f..%2f..%2f..{PASSWD}",
        f"/svelte/..%2f..%2f..%2f..%2f..%2f..{PASSWD}",
        f"/custom_component/x/client/component/..%2f..%2f..%2f..%2f..{PASSWD}",
        f"/gradio_api/stream/x/x/x{PASSWD}",
        "/static/img/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    ],
)
def test_gradio_serves_no_other_file(client: httpx.Client, path: str) -> None:
    request = client.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = client.send(request)
    assert "root:" not in answer.text
    assert answer.status_code >= 400 or "text/html" in answer.headers.get("content-type", ""), answer.status_code


def test_gradio_takes_no_path_of_this_machine_as_input(client: httpx.Client, server: Server) -> None:
    """Every function of the page, every input: a FileData with the path of a file that nobody may have."""
    secret = server.data / "secret.txt"
    secret.write_text("root:secret:" + secrets.token_hex(8))
    config = client.get("/config").json()
    dependencies = config["dependencies"]
    for dependency in dependencies:
        for path in (PASSWD, str(secret)):
            _call(client, dependency, path)
    for file in (server.data / "cache").rglob("*"):
        assert not file.is_file() or b"root:" not in file.read_bytes()[:4096], file
    secret.unlink()


def _call(client: httpx.Client, dependency: dict[str, Any], path: str) -> None:
    value = {"path": path, "orig_name": "a.png", "mime_type": "image/png", "meta": {"_type": "gradio.FileData"}}
    session = secrets.token_hex(5)
    body = {
        "data": [value for _ in dependency["inputs"]],
        "fn_index": dependency["id"],
        "session_hash": session,
        "trigger_id": None,
    }
    joined = client.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return
    told = ""
    try:
        with client.stream("GET", f"/gradio_api/queue/data?session_hash={session}", timeout=3) as stream:
            for line in stream.iter_lines():
                told += line
                if line.startswith("data:") and json.loads(line[5:]).get("msg") in (
                    "process_completed",
                    "close_stream",
                ):
                    break
    except httpx.ReadTimeout:
        pass
    assert "root:" not in told


def test_gradio_knows_that_it_was_launched(tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("launched")
    settings = load_settings(data)
    library, service = rooms(data, settings)
    app = build(service, library, settings, Logins.at(data, settings, None, "127.0.0.1"))
    mounted = [found for route in app.routes if (found := _gradio(route)) is not None]
    assert len(mounted) == 1
    assert mounted[0].get_blocks().has_launched is True


def _gradio(outer: Any) -> Any:
    """The Gradio app inside what is mounted, however it is wrapped."""
    while outer is not None and not hasattr(outer, "get_blocks"):
        outer = getattr(outer, "app", None)
    return outer


def test_a_proxy_that_is_believed(tmp_path: Path) -> None:
    """The real address counts for back-off, https makes the cookie secure; from others the headers are ignored."""
    settings = load_settings(tmp_path, {"proxy_addresses": "10.0.0.1", "login_free_tries": 1, "allowed_hosts": "*"})
    library, service = rooms(tmp_path, settings)
    account = AdminAccount(tmp_path)
    app = doors.build(service, library, settings, Logins.at(tmp_path, settings, account, "127.0.0.1"))
    password = account.password_file.read_text().strip()

    async def log_in(peer: str, forwarded: str, password: str) -> httpx.Response:
        transport = httpx.ASGITransport(app=app, client=(peer, 1))
        headers = {"X-Forwarded-For": forwarded, "X-Forwarded-Proto": "https"}
        async with httpx.AsyncClient(transport=transport, base_url="http://box.example.org") as client:
            return await client.post("/login", data={"user": "admin", "password": password}, headers=headers)

    async def visits() -> None:
        # Waits double from one second; on a busy machine a check takes longer than the first of them.
        assert 429 in [(await log_in("10.0.0.1", "1.1.1.1", "x")).status_code for _ in range(7)]
        let_in = await log_in("10.0.0.1", "2.2.2.2", password)
        assert let_in.status_code == 303
        assert "secure" in let_in.headers["set-cookie"].lower()
        assert 429 in [(await log_in("10.0.0.9", f"3.3.3.{n}", "x")).status_code for n in range(7)]

    asyncio.run(visits())
