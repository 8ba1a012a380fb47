"""Logging in through an OpenID Connect provider that this test serves, with keys and tokens of its own: every check has a
token that fails it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from danqing.api import doors
from danqing.api.auth import Logins
from danqing.api.users import Users
from danqing.app import load_settings, rooms
from danqing.errors import DanqingError

CLIENT, ORIGIN = "danqing-client", "http://draw.example"


@cache
def key_of(name: str) -> Any:
    """A key pair; making one takes a while."""
    return RSAKey.generate_key(2048, {"kid": "one"})


@dataclass
class Provider:
    """Discovery, keys and the token endpoint; `change` spoils the next ID token's claims, `key` signs it."""

    issuer: str = ""
    key: Any = field(default_factory=lambda: key_of("its own"))
    signer: Any = None
    algorithm: str = "RS256"
    change: Callable[[dict[str, Any]], None] = lambda claims: None
    challenge: str = ""
    nonce: str = ""
    document: dict[str, Any] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)

    def token(self) -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": "u-17", "exp": now + 60, "iat": now, "nonce": self.nonce}
        claims["preferred_username"] = "Li.Lei"
        self.change(claims)
        header = {"alg": self.algorithm, "kid": "one"}
        return jwt.encode(header, claims, self.signer or self.key, algorithms=[self.algorithm, "RS256"])

    def answer(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys"}
            return 200, {"issuer": self.issuer, **{k: self.issuer + v for k, v in ends.items()}, **self.document}
        if path == "/keys":
            return 200, {"keys": [self.key.as_dict(private=False)]}
        self.asked.append(form)
        proof = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if path != "/token" or proof.rstrip(b"=").decode() != self.challenge or form["code"] != "the-code":
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "x", "token_type": "Bearer", "id_token": self.token()}


@pytest.fixture
def provider() -> Iterator[Provider]:
    told = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", 0))
            form = {key: value[0] for key, value in parse_qs(self.rfile.read(length).decode()).items()}
            status, answer = told.answer(self.path, form)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.issuer = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield told
    server.shutdown()
    server.server_close()


class Browser:
    """The app in this process, asked as a browser asks: cookies are kept, redirects are looked at."""

    def __init__(self, data: Path, provider: Provider, **more: object) -> None:
        values = {"oidc_issuer": provider.issuer, "oidc_client": CLIENT, "oidc_new_users": True, **more}
        settings = load_settings(data, values)
        library, service = rooms(data, settings)
        self.users, self.provider = Users(data), provider
        self.app = doors.build(service, library, settings, Logins.at(data, settings, self.users, "0.0.0.0", self.users))
        self.cookies = httpx.Cookies()

    def get(self, path: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app)
            async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, cookies=self.cookies) as client:
                answer = await client.get(path)
                self.cookies = client.cookies
                return answer

        return asyncio.run(ask())

    def go(self) -> dict[str, str]:
        """To the provider, which remembers what it was asked; the query that it sends back."""
        answer = self.get("/login/oidc?next=/docs")
        assert answer.status_code == 303, answer.text
        asked = {key: value[0] for key, value in parse_qs(urlsplit(answer.headers["location"]).query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert asked["redirect_uri"] == f"{ORIGIN}/login/oidc/back"
        self.provider.challenge, self.provider.nonce = asked["code_challenge"], asked["nonce"]
        return {"code": "the-code", "state": asked["state"]}

    def back(self, query: dict[str, str]) -> httpx.Response:
        return self.get("/login/oidc/back?" + str(httpx.QueryParams(query)))


def test_somebody_new_comes_in_as_an_artist(tmp_path: Path, provider: Provider) -> None:
    browser = Browser(tmp_path, provider)
    page = browser.get("/login")
    assert "/login/oidc" in page.text
    assert browser.get("/v1/queue").status_code == 401
    answer = browser.back(browser.go())
    assert (answer.status_code, answer.headers["location"]) == (303, "/docs")
    assert browser.get("/v1/account").json()["name"] == "li.lei"
    user = browser.users.get("li.lei")
    assert (user.role, user.subject) == ("artist", f"{provider.issuer} u-17")
    assert browser.users.check("li.lei", "") is None
    browser.cookies = httpx.Cookies()
    assert browser.back(browser.go()).status_code == 303
    assert len(browser.users.all()) == 2
    browser.users.disable("li.lei")
    assert browser.get("/v1/account").status_code == 401
    assert browser.back(browser.go()).status_code == 403


def test_a_name_opens_nobodys_account(tmp_path: Path, provider: Provider) -> None:
    browser = Browser(tmp_path, provider)
    provider.change = lambda claims: claims.update(preferred_username="admin", email="admin@example.org")
    assert browser.back(browser.go()).status_code == 303
    told = browser.get("/v1/account").json()
    assert told["name"].startswith("admin-")
    assert told["role"] == "artist"


def test_strangers_stay_out_unless_they_are_wanted(tmp_path: Path, provider: Provider) -> None:
    browser = Browser(tmp_path, provider, oidc_new_users=False)
    answer = browser.back(browser.go())
    assert answer.status_code == 403
    assert "u-17" in answer.text
    browser.users.add("li", subject=f"{provider.issuer} u-17")
    assert browser.back(browser.go()).status_code == 303


SPOILED: dict[str, Callable[[dict[str, Any]], None]] = {
    "another issuer": lambda claims: claims.update(iss="https://evil.example"),
    "another audience": lambda claims: claims.update(aud="somebody-else"),
    "two audiences without azp": lambda claims: claims.update(aud=[CLIENT, "other"]),
    "azp": lambda claims: claims.update(azp="other"),
    "too old": lambda claims: claims.update(exp=int(time.time()) - 3600),
    "no end": lambda claims: claims.pop("exp"),
    "another nonce": lambda claims: claims.update(nonce="x"),
    "no nonce": lambda claims: claims.pop("nonce"),
    "no subject": lambda claims: claims.pop("sub"),
    "from the future": lambda claims: claims.update(iat=int(time.time()) + 3600),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_token_with_a_wrong_claim(tmp_path: Path, provider: Provider, name: str) -> None:
    browser = Browser(tmp_path, provider)
    provider.change = SPOILED[name]
    assert browser.back(browser.go()).status_code == 403
    assert browser.get("/v1/queue").status_code == 401
    assert [user.name for user in browser.users.all()] == ["admin"]


@pytest.mark.parametrize("way", ["another key", "a shared secret", "the public key as a secret"])
def test_a_token_with_a_wrong_signature(tmp_path: Path, provider: Provider, way: str) -> None:
    browser = Browser(tmp_path, provider)
    if way == "another key":
        provider.signer = key_of("another")
    else:
        secret = CLIENT.encode() if way == "a shared secret" else provider.key.as_pem(private=False)
        provider.algorithm, provider.signer = "HS256", OctKey.import_key(base64.b64encode(secret * 2))
    assert browser.back(browser.go()).status_code == 403
    assert browser.get("/v1/queue").status_code == 401


def test_a_token_without_a_signature(tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = Browser(tmp_path, provider)
    query = browser.go()
    head = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    token = head + "." + provider.token().split(".")[1] + "."
    monkeypatch.setattr(provider, "token", lambda: token)
    assert browser.back(query).status_code == 403


def test_the_answer_of_another_login_counts_for_nothing(tmp_path: Path, provider: Provider) -> None:
    """Login CSRF: an attacker's code in a victim's browser. State, cookie and once-only hold it off."""
    browser = Browser(tmp_path, provider)
    query = browser.go()
    assert browser.back({**query, "state": "x"}).status_code == 403
    query = browser.go()
    browser.cookies = httpx.Cookies()
    assert browser.back(query).status_code == 403
    query = browser.go()
    kept = httpx.Cookies(browser.cookies)
    assert browser.back(query).status_code == 303
    browser.cookies = kept
    browser.cookies.delete("danqing_session", domain="draw.example") if "danqing_session" in kept else None
    assert browser.back(query).status_code == 403
    assert browser.back({"error": "access_denied"}).status_code == 403


def test_a_mixed_up_provider(tmp_path: Path, provider: Provider) -> None:
    browser = Browser(tmp_path, provider)
    assert browser.back({**browser.go(), "iss": "https://evil.example"}).status_code == 403
    provider.document = {"issuer": "https://evil.example"}
    assert Browser(tmp_path / "b", provider).get("/login/oidc").status_code == 403
    provider.document = {"token_endpoint": "http://evil.example/token"}
    assert Browser(tmp_path / "c", provider).get("/login/oidc").status_code == 403


def test_settings_that_would_not_be_safe(tmp_path: Path, provider: Provider) -> None:
    for more in ({"oidc_issuer": "http://id.example.org"}, {"oidc_client": ""}, {"oidc_secret_file": "/no/such"}):
        with pytest.raises(DanqingError) as caught:
            Browser(tmp_path, provider, **more)
        assert caught.value.code == "bad_setting"
