"""Bearer tokens: what they open, and that they end when they are revoked."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from danqing.api.tokens import Tokens
from danqing.errors import DanqingError
from tests.api.support import SMALL, assert_four_keys
from tests.conftest import Server


def test_only_hashes_are_kept(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path)
    text, row = tokens.new("bot", ["draw"])
    kept = tmp_path / "secrets" / "tokens.json"
    assert text.rpartition("_")[2] not in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert Tokens(tmp_path).find(text) == row
    assert tokens.all() == [row]


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t + "x", lambda t: "", lambda t: t.upper()])
def test_another_text_is_none(tmp_path: Path, change: object) -> None:
    tokens = Tokens(tmp_path)
    text, _ = tokens.new("bot", ["draw"])
    assert tokens.find(change(text)) is None  # type: ignore[operator]


def test_one_process_makes_and_another_reads(tmp_path: Path) -> None:
    server, shell = Tokens(tmp_path), Tokens(tmp_path)
    assert server.all() == []
    texts = [shell.new(str(number), ["draw"]) for number in range(3)]
    assert all(server.find(text) == row for text, row in texts)
    shell.revoke(texts[1][1].id)
    assert server.find(texts[1][0]) is None
    assert server.find(texts[2][0]) is not None
    (tmp_path / "secrets" / "tokens.json").write_text("{broken")
    assert server.find(texts[2][0]) is None


@pytest.mark.parametrize("scopes", [[], ["all"], ["draw", ""]])
def test_scopes_are_checked(tmp_path: Path, scopes: list[str]) -> None:
    with pytest.raises(DanqingError):
        Tokens(tmp_path).new("x", scopes)


def test_what_a_token_opens(login_server: Server) -> None:
    text, row = Tokens(login_server.data).new("bot", ["draw"])
    with login_server.client(headers={"Authorization": f"Bearer {text}"}) as client:
        assert client.post("/sdapi/v1/txt2img", json=SMALL).status_code == 200
        job = client.post("/v1/jobs", json={**SMALL, "kind": "txt2img"})
        assert job.status_code == 202
        Tokens(login_server.data).revoke(row.id)
        refused = assert_four_keys(client.get("/sdapi/v1/samplers"), 401)
        assert refused["error"] == "WrongToken"


def test_a_token_as_the_password_of_basic(login_server: Server) -> None:
    text, _ = Tokens(login_server.data).new("old program", ["draw"])
    with login_server.client(auth=("anybody", text)) as client:
        assert client.get("/sdapi/v1/samplers").status_code == 200
        assert client.get("/sdapi/v1/samplers", auth=("anybody", text[:-1])).status_code == 401


def test_a_token_is_ignored_where_no_login_is_asked(quick_server: Server) -> None:
    with quick_server.client(headers={"Authorization": "Bearer sk-whatever"}) as client:
        assert client.get("/v1/models").status_code == 200


def test_jobs_of_others_are_not_there(login_server: Server) -> None:
    tokens = Tokens(login_server.data)
    one, _ = tokens.new("one", ["draw"], "one")
    two, _ = tokens.new("two", ["draw"], "two")

    def client(text: str) -> httpx.Client:
        return login_server.client(headers={"Authorization": f"Bearer {text}"})

    with client(one) as mine, client(two) as theirs:
        job = mine.post("/v1/jobs", json={**SMALL, "kind": "txt2img"}).json()["id"]
        for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
            assert theirs.request(method, f"/v1/jobs/{job}{path}").status_code == 404
        assert theirs.get("/v1/jobs").json() == {"jobs": []}
        with mine.stream("GET", f"/v1/jobs/{job}/events") as stream:
            last = [line for line in stream.iter_lines() if line.startswith("data: ")][-1]
        picture = json.loads(last[6:])["images"][0]
        assert mine.get(f"/v1/images/{picture}").status_code == 200
        assert theirs.get(f"/v1/images/{picture}").status_code == 404
