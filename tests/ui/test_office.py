"""Administrators' routes: the machine, the allocator, merging, models' files, plug-ins; and that nobody else gets in."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from danqing.api import errors
from danqing.desk import Desk
from danqing.jobs.model import Phase, Readiness
from danqing.library import chores
from danqing.log import Tail
from danqing.plugins.loading import Plugins, activate, active
from danqing.settings import Settings
from danqing.ui.context import UiContext
from danqing.ui.office import Office
from danqing.ui.stock import Stock
from tests.gallery.support import new_picture, open_gallery
from tests.plugins.test_loading import install
from tests.ui.conftest import FakeLibrary

ADMIN = {"x-owner": "admin"}
PLUGIN = """
from danqing.plugins import Tab, hookimpl

def render(reader):
    return f"<p>{reader.owner}, {reader.language}</p><form><input name='n'></form>"

def act(reader, values):
    return f"<p>{1 // int(values['n'])}</p>"

@hookimpl
def danqing_tabs():
    return [Tab("Sums", "Sums", "求和", render, act)]
"""


class Service(SimpleNamespace):
    restarts = 0

    def readiness(self) -> Readiness:
        return Readiness(True, (Phase("warm-up", "done", 0.2), Phase("own", "done", 0.1)), device="CPU")

    def stats(self) -> dict[str, float]:
        return {"jobs_waiting": 2.0, "engine_ram_engine": 1e9}

    async def restart_engine(self) -> None:
        self.restarts += 1


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def service(data: Path) -> Service:
    gallery, _ = open_gallery(data)
    gallery.add(new_picture("j", 0, owner="admin", infotext="a cat"))
    return Service(gallery=gallery)


@pytest.fixture
def client(data: Path, service: Service, settings: Settings) -> Iterator[TestClient]:
    install(data, "sums", PLUGIN)
    before = active()
    activate(Plugins(data)).find()
    app, tail = FastAPI(), Tail()
    tail.emit(_record("password=hunter2 was tried"))
    errors.install(app)
    context = UiContext(
        service,  # type: ignore[arg-type]
        FakeLibrary(),  # type: ignore[arg-type]
        Settings(settings.rows.values(), {"chores_external": True}),
        lambda request: request.headers.get("x-owner", "ann"),
        steers=lambda request: request.headers.get("x-owner") == "admin",
        desk=Desk(tail),
    )
    for routes in (Office(context), Stock(context)):
        routes.add_to(app)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
    activate(before)


def _record(text: str) -> Any:
    import logging

    return logging.LogRecord("danqing", logging.INFO, __file__, 1, text, (), None)


def test_only_administrators_come_in(client: TestClient) -> None:
    open_to_all = {("GET", "/ui/me"), ("GET", "/ui/plugins"), ("GET", "/ui/plug/{name}"), ("POST", "/ui/plug/{name}")}
    seen = 0
    for route in client.app.routes:  # type: ignore[attr-defined]
        if not route.path.startswith("/ui/") or "preview/" in route.path:
            continue
        for method in route.methods:
            if (method, route.path) not in open_to_all:
                assert client.request(method, route.path, json={}).status_code == 403, route.path
                seen += 1
    assert seen >= 12
    assert client.get("/ui/me").json() == {"admin": False, "tabs": ["plug-wildcards", "plug-sums"]}
    assert 'data-plugin="sums"' in client.get("/ui/plugins").text
    assert client.get("/ui/me", headers=ADMIN).json()["admin"] is True


def test_the_machine_is_shown_without_secrets(client: TestClient) -> None:
    told = client.get("/ui/system/facts", headers=ADMIN).json()
    assert (told["ready"], told["device"], told["stats"]["jobs_waiting"]) == (True, "CPU", 2.0)
    assert told["compiled"] == "not compiled"
    assert told["disk"]["total"] >= told["disk"]["free"] > 0
    assert told["log"] == {"number": 1, "lines": ["password=*** was tried"]}
    assert client.get("/ui/system/facts?after=1", headers=ADMIN).json()["log"]["lines"] == []
    with tarfile.open(fileobj=io.BytesIO(client.get("/ui/system/bundle", headers=ADMIN).content)) as archive:
        texts = {name: archive.extractfile(name).read().decode() for name in archive.getnames()}  # type: ignore[union-attr]
    assert {"status.json", "settings.json", "plugins.json", "log.txt", "versions.json"} <= {Path(n).name for n in texts}
    assert not any("hunter2" in text for text in texts.values())
    chinese = {**ADMIN, "accept-language": "zh"}
    told = client.get("/ui/system/facts", headers=chinese).json()
    assert [phase["name"] for phase in told["phases"]] == ["试笔", "own"]
    page = client.get("/ui/system", headers=chinese).text
    assert "显存分配器" in page
    assert "重启引擎" in page


def test_the_allocator_is_kept_and_the_engine_begins_anew(
    client: TestClient, service: Service, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "settings.toml").write_text("# mine\nlimit_steps = 99\nalloc_max_split_mb = 1\n")
    wanted = {"alloc_max_split_mb": 256, "alloc_expandable": True, "alloc_collect_at": 0.8, "limit_steps": 1}
    told = client.post("/ui/system/allocator", json=wanted, headers=ADMIN).json()
    assert told["words"] == "max_split_size_mb:256,expandable_segments:True,garbage_collection_threshold:0.8"
    assert service.restarts == 1
    text = (data / "settings.toml").read_text()
    assert "# mine" in text
    assert "limit_steps = 99" in text
    assert text.count("alloc_max_split_mb") == 1
    refused = client.post(
        "/ui/system/allocator", json={"alloc_collect_at": 7}, headers={**ADMIN, "accept-language": "zh"}
    )
    assert refused.status_code >= 400
    assert "7.0 不在 0 与 1 之间" in refused.json()["errors"]
    assert (data / "settings.toml").read_text() == text
    monkeypatch.setenv("DANQING_ALLOC_EXPANDABLE", "true")
    assert "disabled" in client.get("/ui/system", headers=ADMIN).text


def test_a_service_that_nobody_starts_again_is_not_ended(client: TestClient, service: Service) -> None:
    answer = client.post("/ui/system/restart", json={"what": "service"}, headers=ADMIN)
    assert answer.json()["error"] == "NotAvailable"
    assert client.post("/ui/system/restart", json={"what": "engine"}, headers=ADMIN).status_code == 200
    assert service.restarts == 1


def test_a_merge_is_asked_for_once_all_is_right(client: TestClient, data: Path) -> None:
    good = {
        **{"kind": "merge", "method": "weighted sum", "a": "danqing-mini", "b": "large", "multiplier": 0.4},
        **{"precision": "fp16", "config": "any", "name": "mixed"},
    }
    for changes, code in (
        ({"method": "stir"}, "InvalidField"),
        ({"b": ""}, "MergeLacks"),
        ({"b": "gone"}, "UnknownModel"),
        ({"multiplier": 11}, "OutOfRange"),
        ({"multiplier": "NaN"}, "OutOfRange"),
        ({"name": "../out"}, "InvalidField"),
        ({"name": "丹青" * 45}, "InvalidField"),  # 270 bytes; disks take 255
        ({"kind": "dig"}, "InvalidField"),
    ):
        answer = client.post("/ui/chores", json={**good, **changes}, headers=ADMIN)
        assert answer.json()["error"] == code, changes
    assert chores.all_of(data) == []
    asked = client.post("/ui/chores", json=good, headers=ADMIN).json()
    (listed,) = client.get("/ui/chores", headers={**ADMIN, "accept-language": "zh"}).json()
    assert listed["id"] == asked["id"]
    assert listed["said"] == "合并: mixed · 等待中 0%"
    client.post("/ui/chores/cancel", json={"id": asked["id"]}, headers=ADMIN)
    assert (chores.folder_of(data) / asked["id"] / "cancel").exists()


def test_fetching_asks_for_the_licences(client: TestClient) -> None:
    name = next(iter(chores.fetchable(Path("/nowhere"))))["name"]
    wanted = {"kind": "fetch", "names": [name]}
    refused = client.post("/ui/chores", json=wanted, headers=ADMIN)
    assert refused.status_code == 422
    assert refused.json()["errors"].startswith("accepted: ")
    for names in (["x"], 5, None, {"x": 1}):
        answer = client.post("/ui/chores", json={**wanted, "names": names}, headers=ADMIN)
        assert answer.json()["error"] == "InvalidField", names
    assert client.post("/ui/chores", json={**wanted, "accepted": True}, headers=ADMIN).status_code == 200
    assert name in client.get("/ui/manifest", headers=ADMIN).text


def test_models_are_deleted_brought_back_and_given_a_picture(client: TestClient, data: Path, service: Service) -> None:
    folder = data / "models" / "Lora" / "ink"
    folder.mkdir(parents=True)
    (folder / "brush.safetensors").write_bytes(b"x")
    file = {"kind": "lora", "name": "ink/brush.safetensors"}
    for wrong in ("../../danqing.db", "/etc/passwd", "ink/brush.txt", "gone.safetensors"):
        assert client.post("/ui/models/delete", json={**file, "name": wrong}, headers=ADMIN).status_code >= 400
    assert client.get("/ui/models/preview/lora/ink/brush.safetensors").status_code == 404
    (picture,) = service.gallery.pictures("admin", limit=1)
    asked = {**file, "picture": picture.id}
    assert client.post("/ui/models/preview", json=asked, headers=ADMIN).status_code == 200
    laid = client.get("/ui/models/preview/lora/ink/brush.safetensors").content
    assert laid.startswith(b"\x89PNG")
    whole = picture.path.read_bytes()
    picture.path.write_bytes(whole[:60])
    assert client.post("/ui/models/preview", json=asked, headers=ADMIN).status_code >= 400
    assert client.get("/ui/models/preview/lora/ink/brush.safetensors").content == laid, "a broken picture replaces none"
    picture.path.write_bytes(whole)
    (folder / "brush.preview.jpg").write_bytes(b"older")
    assert client.post("/ui/models/preview", json=asked, headers=ADMIN).status_code == 200
    assert sorted(path.name for path in folder.iterdir()) == ["brush.preview.png", "brush.safetensors"]
    client.post("/ui/models/delete", json=file, headers=ADMIN)
    assert list(folder.iterdir()) == [], "its picture goes with it"
    assert client.post("/ui/models/delete", json={**file, "restore": True}, headers=ADMIN).status_code == 200
    assert (folder / "brush.safetensors").read_bytes() == b"x"
    assert client.get("/ui/models/preview/lora/ink/brush.safetensors").content == laid


def test_a_second_model_of_a_name_that_is_deleted_does_not_take_the_firsts_place(
    client: TestClient, data: Path
) -> None:
    folder = data / "models" / "Lora"
    folder.mkdir(parents=True, exist_ok=True)
    file = {"kind": "lora", "name": "same.safetensors"}
    for content in (b"first", b"second"):
        (folder / "same.safetensors").write_bytes(content)
        assert client.post("/ui/models/delete", json=file, headers=ADMIN).status_code == 200
    kept = sorted(path.read_bytes() for path in (data / "trash" / "lora").glob("same*"))
    assert kept == [b"first", b"second"]
    (folder / "same.ckpt").write_bytes(b"other")
    (folder / "same.json").write_text("{}")
    (folder / "same.safetensors").write_bytes(b"third")
    client.post("/ui/models/delete", json=file, headers=ADMIN)
    assert (folder / "same.json").is_file(), "it belongs to the other too"
    long = {**file, "name": "x" * 300 + ".safetensors"}
    assert client.post("/ui/models/delete", json=long, headers=ADMIN).status_code == 404
    assert client.post("/ui/models/delete", json={**long, "restore": True}, headers=ADMIN).status_code == 404


def test_a_tab_of_a_plugin_and_what_becomes_of_one_that_raises(client: TestClient) -> None:
    assert client.get("/ui/plug/plug-sums", headers={"accept-language": "zh"}).text.startswith("<p>ann, zh</p>")
    assert client.post("/ui/plug/plug-sums", json={"n": "1"}).text == "<p>1</p>"
    failed = client.post("/ui/plug/plug-sums", json={"n": "0"}, headers={"accept-language": "zh"})
    assert "插件“sums”出错，已停用" in failed.json()["errors"]
    assert client.get("/ui/plug/plug-sums").status_code == 404
    assert "ZeroDivisionError" in client.get("/ui/plugins").text
    assert client.post("/ui/plugins", json={"name": "sums", "on": True}, headers=ADMIN).status_code == 200
    assert client.post("/ui/plug/plug-sums", json={"n": "1"}).text == "<p>1</p>"
    assert client.post("/ui/plugins", json={"name": "no", "on": True}, headers=ADMIN).status_code == 404
    client.post("/ui/plugins", json={"name": "sums", "on": False}, headers=ADMIN)
    assert client.get("/ui/me").json()["tabs"] == ["plug-wildcards"]
