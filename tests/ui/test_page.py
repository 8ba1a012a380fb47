"""The page as it is mounted: what it serves, and what it must not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

import danqing.ui
from danqing.settings import Settings
from danqing.ui import page
from danqing.ui.context import UiContext
from danqing.ui.shell import Shell
from tests.ui.conftest import Desk, FakeLibrary, FakeService


@pytest.fixture
def client(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    app = FastAPI()
    context = UiContext(FakeService(), FakeLibrary(), settings, lambda request: "ann", tmp_path / "cache")  # type: ignore[arg-type]
    page.mount(app, context)
    assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path / "cache")
    with TestClient(app) as client:
        yield client


def test_document_has_our_head_first_and_no_foreign_address(client: TestClient) -> None:
    text = client.get("/", headers={"accept-encoding": "br, gzip"}).text
    head = text[text.index("<head>") :]
    assert head.index("window.danqing") < head.index("gradio_config")
    assert "raw.githubusercontent.com" not in text
    assert "@teamGradio" not in text
    assert client.head("/").status_code == 200


def test_files_of_the_machine_stay_there(client: TestClient, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    for path in (f"/gradio_api/file={secret}", "/gradio_api/file=/etc/passwd", "/gradio_api/file=../../etc/passwd"):
        assert client.get(path).status_code in (403, 404)


def test_every_handler_is_private_and_waits_for_nobody(desk: Desk) -> None:
    assert desk.demo.fns
    for handler in desk.demo.fns.values():
        assert handler.api_visibility == "private"
        assert handler.concurrency_limit in (None, "default")
    assert desk.demo._queue.default_concurrency_limit is None
    assert not desk.demo.analytics_enabled


def test_the_page_never_loads_tensors() -> None:
    sources = "\n".join(path.read_text("utf-8") for path in Path(danqing.ui.__file__).parent.rglob("*.py"))
    assert not [name for name in ("torch", "diffusers", "transformers", "numpy") if f"import {name}" in sources]


def test_static_files_ask_for_nothing_outside() -> None:
    for path in (Path(danqing.ui.__file__).parent / "static").iterdir():
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text.lower().replace("plain http", ""), path.name


def test_shell_edits_the_document_only() -> None:
    shell = Shell(lambda *_: None, "<b>")  # type: ignore[arg-type, return-value]
    meta = b'<meta property="og:image"\n content="https://elsewhere/x.jpg" />'
    assert shell.edit(b"<head>" + meta + b"<title>") == b"<head><b><title>"
