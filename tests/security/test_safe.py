"""Safe by default, point by point: headers, cookies, hosts, rates, what is open, bombs."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image
from structlog.testing import capture_logs

from danqing.api import errors
from danqing.api.rates import BURST_SECONDS, Rates
from danqing.errors import DanqingError
from danqing.gallery import inputs, store
from tests.jobs.support import a_request
from tests.security.conftest import Run
from tests.security.support import HOST, PASSWORD, House, basic, png

KEYS = ("method", "route", "status", "user", "job")


def test_headers_of_every_answer(home: House, run: Run) -> None:
    async def visit() -> None:
        for path in ("/", "/login", "/v1/queue", "/no/such", "/metrics", "/ui/gallery", "/shared/x"):
            for name in ("admin", "nobody"):
                headers = (await home.ask("GET", path, home.headers[name])).headers
                policy = headers["content-security-policy"]
                assert "frame-ancestors" in policy
                assert "default-src" in policy
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["x-frame-options"] == "SAMEORIGIN"
                assert headers["referrer-policy"] in ("same-origin", "no-referrer")
                assert "access-control-allow-origin" not in headers

    run(visit())


def test_cookies(home: House, run: Run) -> None:
    async def visit() -> None:
        form = f"user=ann&password={PASSWORD.replace(' ', '+')}".encode()
        kind = {"content-type": "application/x-www-form-urlencoded", "origin": f"http://{HOST}"}
        answer = await home.ask("POST", "/login", kind, form)
        assert answer.status == 303
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie

    run(visit())


def test_trust_comes_from_no_address(home: House, run: Run) -> None:
    """Behind nginx everybody comes from loopback; forwarded addresses are believed from named proxies only."""

    async def visit() -> None:
        for peer in ("127.0.0.1", "::1", "10.0.0.1"):
            for more in ({}, {"x-forwarded-for": "127.0.0.1"}, {"x-real-ip": "::1"}, {"host": "localhost"}):
                assert (await home.ask("GET", "/v1/queue", more, address=peer)).status == 401
                assert (await home.ask("GET", "/metrics", more, address=peer)).status == 401

    run(visit())


@pytest.mark.parametrize(
    ("host", "warned"), [(HOST, True), ("localhost", False), ("127.0.0.1:7860", False), ("127.0.0.1.evil", True)]
)
def test_the_login_page_says_that_nothing_is_encrypted(home: House, run: Run, host: str, warned: bool) -> None:
    async def visit() -> None:
        for language, word in (("en", "not encrypted"), ("zh", "未加密")):
            page = await home.ask("GET", "/login", {"host": host, "accept-language": language})
            assert (word in page.body.decode()) is warned

    run(visit())


def test_too_many_requests_wait() -> None:
    now = [0.0]
    rates = Rates(2.0, lambda: now[0])
    for _ in range(int(2 * BURST_SECONDS)):
        rates.take("ann")
    with pytest.raises(DanqingError) as caught:
        rates.take("ann")
    assert (caught.value.status, caught.value.params["seconds"]) == (429, 1)
    rates.take("bob")
    now[0] += 0.6
    rates.take("ann")
    for _ in range(1000):
        Rates(0).take("ann")


# -- pictures whose decoding would fill memory --


def bomb(width: int, height: int) -> bytes:
    """A PNG of so many pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(60000, 60000), (2**31 - 1, 1), (1, 2**31 - 1), (2**30, 2**30)])
def test_a_bomb_is_counted_before_it_is_decoded(width: int, height: int) -> None:
    with pytest.raises(DanqingError) as caught:
        inputs.opened(bomb(width, height))
    assert caught.value.code == "broken_image"


def test_texts_in_a_picture_are_bounded() -> None:
    """A text chunk that inflates to many megabytes."""
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    data = out.getvalue()
    text = b"parameters\0\0" + zlib.compress(b"x" * 20_000_000, 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    with pytest.raises(DanqingError):
        inputs.opened(data[:33] + chunk + data[33:])


def test_the_documents_table_is_the_tests(tmp_path: Path) -> None:
    from tests.security.access import ROWS, VISITORS, table

    for name, chinese in (("security.md", False), ("security.zh-CN.md", True)):
        text = (Path(__file__).parents[2] / "docs" / name).read_text("utf-8")
        for row in table(chinese):
            assert "| " + " | ".join(row) + " |" in text
    assert len(ROWS) > 40
    assert len(VISITORS) == 8


def test_lines_of_requests_name_users_and_jobs_and_no_secrets(home: House, run: Run) -> None:
    """Who asked for what about which job; nothing of a query, a token or the secret of a link."""

    async def visit() -> list[dict[str, Any]]:
        token, _ = home.logins.tokens.new("mine", ["draw"], "bob")
        bearer, wish = (
            {"authorization": f"Bearer {token}"},
            b'{"width": 64, "height": 64, "steps": 1, "prompt": "heliotrope"}',
        )
        body = json.dumps({"kind": "txt2img", **json.loads(wish)}).encode()
        with capture_logs() as lines:
            await home.ask("POST", "/sdapi/v1/txt2img", basic("ann"), wish)
            made = (await home.ask("POST", "/v1/jobs", bearer, body)).json()["id"]
            await home.ask("DELETE", f"/v1/jobs/{made}?secret=hush", bearer)
            await home.ask("GET", "/shared/not-a-link", {})
            await home.ask("GET", "/v1/jobs", {"authorization": "Bearer danqing_wrong"}, address="198.51.100.5")
            await home.ask("GET", "/v1/jobs", bearer)
        told = [{key: line.get(key) for key in KEYS} for line in lines if line["event"] == "request"]
        text = json.dumps(lines, default=str)
        for secret in (token, "hush", "not-a-link", "danqing_wrong", "heliotrope"):
            assert secret not in text
        assert told[0].pop("job") in [job.job.id for job in home.service.views("ann", limit=1)]
        assert [told[1].pop("job"), told[2].pop("job")] == [made, made]
        return told

    assert run(visit()) == [
        {"method": "POST", "route": "/sdapi/v1/txt2img", "status": 200, "user": "ann"},
        {"method": "POST", "route": "/v1/jobs", "status": 202, "user": "bob"},
        {"method": "DELETE", "route": "/v1/jobs/{job_id}", "status": 200, "user": "bob"},
        {"method": "GET", "route": "/shared/{secret}", "status": 404, "user": None, "job": None},
        {"method": "GET", "route": "none", "status": 401, "user": None, "job": None},
    ]


def test_no_picture_is_kept_when_the_disk_is_nearly_full(
    home: House, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def visit() -> None:
        picture = png((31, 17))
        text = base64.b64encode(picture).decode()
        unit = {"args": [{"enabled": True, "module": "reference_only", "image": text}]}
        wishes = [
            ("/ui/inputs", picture),
            ("/sdapi/v1/img2img", json.dumps({"init_images": [text]}).encode()),
            ("/sdapi/v1/txt2img", json.dumps({"alwayson_scripts": {"ControlNet": unit}}).encode()),
        ]
        before = set((home.data / inputs.FOLDER).rglob("*"))
        monkeypatch.setattr(store, "free_mb", lambda folder: -1)
        for path, body in wishes:
            answer = await home.ask("POST", path, home.headers["owner"], body)
            assert (answer.status, "disk" in answer.json()["errors"].lower()) == (507, True), path
        assert set((home.data / inputs.FOLDER).rglob("*")) == before

    run(visit())


def test_a_picture_whose_file_is_gone_is_not_there(home: House, run: Run) -> None:
    async def visit() -> None:
        job = await home.service.submit(a_request(model=""), owner="bob")
        (picture,) = (await home.service.wait(job.id)).pictures
        link = (await home.ask("POST", f"/v1/images/{picture}/share", basic("bob"), b'{"hours": 1}')).json()["path"]
        assert (await home.ask("GET", link)).status == 200
        home.service.gallery.get(picture).path.unlink()
        for path, who in ((link, {}), (f"/pictures/{picture}", basic("bob"))):
            assert (await home.ask("GET", path, who)).status == 404

    run(visit())


def test_what_nobody_expected_is_logged_without_the_secret_of_a_link() -> None:
    app = FastAPI()
    errors.install(app)

    @app.get("/shared/{secret}")
    def broken(secret: str) -> None:
        raise ValueError("no")

    with capture_logs() as lines:
        answer = TestClient(app, raise_server_exceptions=False).get("/shared/hush-hush")
    assert answer.status_code == 500
    (line,) = lines
    assert (line["reference"] in answer.text, line["route"]) == (True, "/shared/{secret}")
    assert "hush" not in repr({**line, "exc_info": None})
