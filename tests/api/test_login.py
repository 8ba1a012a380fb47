"""Logins on a real server: what is closed, how one gets in, and how guessing is slowed."""

from __future__ import annotations

import base64
import re
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import httpx
import pytest

from danqing.api.auth import AdminAccount, Logins
from danqing.api.login import LoginPages, local_path
from danqing.app import load_settings
from tests.api.support import SMALL, assert_four_keys, draw, routes_of
from tests.conftest import Server

OPEN = {"/login", "/login/oidc", "/login/oidc/back", "/shared/x"}
"""The way in; and what a link opens, whose secret nobody guesses."""

ENDS_THE_LOGIN = {("POST", "/logout"), ("DELETE", "/v1/account/sessions")}


@pytest.fixture
def stranger(login_server: Server) -> Iterator[httpx.Client]:
    with login_server.client() as client:
        yield client


@pytest.fixture
def member(login_server: Server) -> Iterator[httpx.Client]:
    """Somebody with a session cookie."""
    with login_server.client() as client:
        answer = client.post("/login", data={"user": "admin", "password": login_server.password})
        assert answer.status_code == 303
        yield client


def from_address(server: Server, address: str) -> httpx.Client:
    """A client whose connections come from another loopback address."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=server.base_url, transport=transport, timeout=30)


def routes(data: Path) -> list[tuple[str, str]]:
    """Method and path of every route of the app, Gradio's included."""
    from danqing.app import build, rooms

    settings = load_settings(data)
    library, service = rooms(data, settings)
    app = build(service, library, settings, Logins.at(data, settings, AdminAccount(data), "127.0.0.1"))
    return sorted({(method, re.sub(r"\{[^}]*\}", "x", path)) for method, path in routes_of(app.routes)})


@pytest.fixture(scope="module")
def all_routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    found = routes(tmp_path_factory.mktemp("routes"))
    paths = {path for _, path in found}
    assert {"/login", "/metrics", "/pictures/x", "/sdapi/v1/txt2img", "/docs", "/openapi.json"} <= paths
    assert {"/config", "/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/file=x"} <= paths
    assert len(found) > 60
    return found


def test_every_route_asks_for_a_login(stranger: httpx.Client, all_routes: list[tuple[str, str]]) -> None:
    let_in = []
    for method, path in all_routes:
        if path in OPEN:
            continue
        answer = stranger.request(method, path)
        if answer.status_code != 401 or ("Not authenticated" not in answer.text and method != "HEAD"):
            let_in.append((method, path, answer.status_code))
    assert not let_in


def test_every_route_lets_a_member_in(member: httpx.Client, all_routes: list[tuple[str, str]]) -> None:
    kept_out = []
    for method, path in all_routes:
        # An empty form at /login is a wrong password to anybody.
        if path == "/login" or (method, path) in {("POST", "/sdapi/v1/txt2img"), *ENDS_THE_LOGIN}:
            continue
        try:
            with member.stream(method, path, timeout=1) as answer:
                if answer.status_code == 401:
                    kept_out.append((method, path, answer.status_code))
        except httpx.ReadTimeout:
            continue  # a stream without end: it was let in
    assert not kept_out


@pytest.mark.parametrize("path", ["/", "/pictures/x", "/docs", "/no/such", "/login/", "//login", "/login/../docs"])
def test_people_are_sent_to_the_login_page(stranger: httpx.Client, path: str) -> None:
    answer = stranger.get(path, headers={"Accept": "text/html,*/*"})
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next=/")


def test_what_is_open_is_bare(stranger: httpx.Client) -> None:
    assert stranger.get("/healthz").text == "ok"
    told = stranger.get("/readyz").json()
    assert set(told) <= {"ready", "page", "phases", "error"}
    assert all(set(phase) == {"name", "state", "seconds"} for phase in told["phases"])


@pytest.mark.parametrize(("language", "word"), [("zh-CN,zh;q=0.9", "登录后即可作画"), ("en", "Log in to draw")])
def test_login_page(stranger: httpx.Client, language: str, word: str) -> None:
    page = stranger.get("/login", headers={"Accept-Language": language})
    assert page.status_code == 200
    assert word in page.text
    assert "script" not in page.text.lower().replace("description", "")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


def test_cookie(login_server: Server, stranger: httpx.Client) -> None:
    form = {"user": "admin", "password": login_server.password, "next": "/docs"}
    answer = stranger.post("/login", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/docs")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "max-age=" in cookie
    assert stranger.get("/sdapi/v1/samplers").status_code == 200
    token = stranger.cookies["danqing_session"]
    assert stranger.get("/logout").status_code == 405
    assert stranger.post("/logout").status_code == 303
    stranger.cookies.set("danqing_session", token)
    assert stranger.get("/sdapi/v1/samplers").status_code == 401


@pytest.mark.parametrize(
    "target", ["//evil.com", "https://evil.com", "/\\evil.com", "javascript:alert(1)", "/a\nb", "", "/\u3002", "/a\\b"]
)
def test_a_login_leads_to_this_server_only(target: str) -> None:
    assert local_path(target) == "/"
    assert local_path("/docs?a=1") == "/docs?a=1"


def test_basic(login_server: Server, stranger: httpx.Client) -> None:
    right = httpx.BasicAuth("admin", login_server.password)
    assert stranger.get("/sdapi/v1/samplers", auth=right).status_code == 200
    assert stranger.get("/", auth=right).status_code == 200
    assert draw(login_server.client(auth=right))["images"]


def test_wrong_and_missing_credentials_have_the_known_shape(login_server: Server) -> None:
    with from_address(login_server, "127.0.0.21") as client:
        missing = client.get("/sdapi/v1/options")
        assert missing.json() == {
            "error": "HTTPException",
            "detail": "Not authenticated",
            "body": "",
            "errors": "",
        }
        wrong = client.get("/sdapi/v1/options", auth=("admin", "wrong"))
        assert assert_four_keys(wrong, 401)["detail"] == "Incorrect username or password"
        for answer in (missing, wrong):
            assert "www-authenticate" not in answer.headers
        for header in ("Basic", "Basic !!!", "Basic " + base64.b64encode(b"\xff\xfe").decode(), "Bearer x"):
            assert client.get("/sdapi/v1/options", headers={"Authorization": header}).status_code == 401


@pytest.mark.parametrize("way", ["form", "basic"])
def test_guessing_is_slowed_by_address(login_server: Server, way: str) -> None:
    address = {"form": "127.0.0.31", "basic": "127.0.0.32"}[way]

    def guess(password: str) -> httpx.Response:
        if way == "form":
            return client.post("/login", data={"user": "admin", "password": password})
        return client.get("/sdapi/v1/samplers", auth=("admin", password))

    with from_address(login_server, address) as client:
        codes = [guess(f"guess {number}").status_code for number in range(8)]
        assert codes[:5] == [401] * 5
        assert 429 in codes
        right = guess(login_server.password)
        assert right.status_code == 429
        assert int(right.headers["retry-after"]) >= 1
    with from_address(login_server, "127.0.0.33") as other:
        assert other.get("/sdapi/v1/samplers", auth=("admin", login_server.password)).status_code == 200


def test_the_password_is_kept_as_a_hash_only(login_server: Server) -> None:
    secrets = login_server.data / "secrets"
    password = login_server.password
    assert len(password) >= 20
    assert stat.S_IMODE((secrets / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert (secrets / "admin.hash").read_text().startswith("$argon2id$")
    for file in login_server.data.rglob("*"):
        if file.is_file() and file.name != "password" and file.suffix != ".safetensors":
            assert password.encode() not in file.read_bytes(), file
    assert password not in login_server.log_text()
    assert "secrets/password" in login_server.log_text()


def test_pictures_belong_to_their_owner(login_server: Server, member: httpx.Client, stranger: httpx.Client) -> None:
    draw(member, save_images=True)
    assert stranger.post("/sdapi/v1/txt2img", json=SMALL).status_code == 401
    assert member.get("/pictures/" + "0" * 32).status_code == 404
    for name in ("../../etc/passwd", "..%2f..%2fsecrets%2fpassword", "%2e%2e/secrets/password", "x" * 5000, "%00"):
        assert member.get("/pictures/" + name).status_code in (404, 400)


def test_metrics_are_closed(stranger: httpx.Client, member: httpx.Client) -> None:
    assert stranger.get("/metrics").status_code == 401
    assert "danqing_jobs{" in member.get("/metrics").text


def test_sessions_outlive_a_restart(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {"session_hours": 1.0})
    token = Logins.at(tmp_path, settings, None, "127.0.0.1").sessions.open("admin")
    again = Logins.at(tmp_path, settings, None, "127.0.0.1").sessions
    assert again.user(token) == "admin"
    assert again.user(token + "x") is None
    for kept in (tmp_path / "secrets").glob("users.db*"):
        assert token.encode() not in kept.read_bytes()
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with closing(connect(tmp_path / "secrets" / "users.db")) as database:
        database.execute("UPDATE session SET expires = 0")
        database.commit()
    assert Logins.at(tmp_path, settings, None, "127.0.0.1").sessions.user(token) is None


def test_a_second_start_keeps_the_password(tmp_path: Path) -> None:
    AdminAccount(tmp_path)
    password = (tmp_path / "secrets" / "password").read_text().strip()
    (tmp_path / "secrets" / "password").unlink()
    account = AdminAccount(tmp_path)
    assert not (tmp_path / "secrets" / "password").exists()
    assert account.check("admin", password) == "admin"
    assert account.check("Admin", password) is None
    assert account.check("admin", password + " ") is None


def test_a_box_says_how_its_password_is_got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logins = Logins.at(tmp_path, load_settings(tmp_path), AdminAccount(tmp_path), "127.0.0.1")
    pages = LoginPages(logins)
    assert b"secrets/password" in pages._render("en", "/").body
    monkeypatch.setenv("DANQING_BOX_DATA", str(tmp_path))
    for language in ("en", "zh"):
        body = pages._render(language, "/").body
        assert b"sudo danqing box password" in body
        assert b"secrets/password" not in body
