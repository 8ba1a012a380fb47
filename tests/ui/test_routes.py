"""What the page's scripts ask for: pictures in, tokens, terms, gallery, models, settings, uploads; over a real gallery."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fastapi import FastAPI
from PIL import Image, PngImagePlugin
from starlette.testclient import TestClient

from danqing import app as house
from danqing.api import errors
from danqing.api.options import Options
from danqing.library.tensors import Row, write_safetensors
from danqing.settings import Settings
from danqing.ui.context import UiContext
from danqing.ui.routes import Routes
from danqing.ui.uploads import KINDS
from tests.gallery.support import new_picture, open_gallery
from tests.ui.conftest import FakeLibrary


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def client(data: Path, settings: Settings) -> Iterator[TestClient]:
    gallery, _ = open_gallery(data)
    for index, prompt in enumerate(("a red cat <b>", "a blue dog")):
        gallery.add(
            new_picture(f"j{index}", index, owner="local", infotext=f"{prompt}\nSteps: 2, Seed: 1, Size: 16x16")
        )
    gallery.add(new_picture("other", owner="wang", infotext="a secret"))
    app = FastAPI()
    errors.install(app)
    context = UiContext(
        SimpleNamespace(gallery=gallery),  # type: ignore[arg-type]
        FakeLibrary(),  # type: ignore[arg-type]
        settings,
        lambda request: request.headers.get("x-owner", "local"),
        options=Options(data),
        client_of=lambda request: request.headers.get("x-owner", "local"),
        steers=lambda request: "x-owner" not in request.headers,
    )
    Routes(context).add_to(app)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def png(text: str = "") -> bytes:
    out, chunk = io.BytesIO(), PngImagePlugin.PngInfo()
    if text:
        chunk.add_text("parameters", text)
    Image.new("RGB", (24, 16), "teal").save(out, "PNG", pnginfo=chunk)
    return out.getvalue()


def ids(client: TestClient, words: str = "", **more: Any) -> list[str]:
    html = client.get("/ui/gallery", params={"q": words, **more}).text
    return [part.split('"')[0] for part in html.split('data-id="')[1:]]


def test_pictures_come_in_and_say_what_they_are(client: TestClient) -> None:
    told = client.post("/ui/inputs", content=png("a cat\nSteps: 3, Sampler: Euler, Seed: 1")).json()
    assert (told["width"], told["height"]) == (24, 16)
    assert told["infotext"].startswith("a cat")
    assert client.get(f"/ui/inputs/{told['name']}").headers["content-type"] == "image/png"
    for name in ("0" * 64, "..%2f..%2fetc", "x"):
        assert client.get(f"/ui/inputs/{name}").status_code == 404
    answer = client.post("/ui/inputs", content=b"no picture", headers={"accept-language": "zh"})
    assert answer.status_code >= 400
    assert "图片" in answer.json()["errors"]


def test_only_own_pictures_are_sent_on(client: TestClient) -> None:
    mine = ids(client)[0]
    assert client.post("/ui/send", json={"picture": mine}).json()["width"] == 16
    assert client.post("/ui/send", json={"picture": mine}, headers={"x-owner": "wang"}).status_code == 404
    assert client.post("/ui/send", content=b"[").status_code >= 400


def test_words_are_counted_and_translated_where_the_model_needs_it(client: TestClient) -> None:
    wanted = {"prompt": "水墨画", "negative": "", "model": "large.safetensors", "translate": "auto"}
    told = client.post("/ui/words", json=wanted).json()
    assert told == {"tokens": [[3, 75], [0, 75]], "english": ["ink wash painting", ""]}
    for other in ({"model": "danqing-mini.safetensors"}, {"translate": "never"}, {"model": "gone"}):
        assert client.post("/ui/words", json={**wanted, **other}).json()["english"] == []


def test_terms_and_networks_complete_what_is_written(client: TestClient, data: Path) -> None:
    assert {"text": "ink wash painting", "note": "水墨"} in client.get("/ui/terms", params={"q": "水墨"}).json()
    folder = data / "models" / "Lora"
    folder.mkdir(parents=True)
    write_safetensors(folder / "inkling.safetensors", [tensor()], {})
    (folder / "inkling.json").write_text(json.dumps({"activation text": "<ink>", "preferred weight": 0.7}))
    assert client.get("/ui/terms", params={"q": "inkl"}).json()[0] == {"text": "<lora:inkling:0.7>", "note": "lora"}
    assert "<img" not in client.get("/ui/networks").text
    (folder / "inkling.preview.png").write_bytes(png())
    html = client.get("/ui/networks").text
    assert 'src="/ui/models/preview/lora/inkling.safetensors"' in html
    assert 'data-insert="&lt;lora:inkling:0.7&gt;"' in html
    assert "<small>&lt;ink&gt;</small>" in html


def tensor() -> Row:
    return Row("a", "F32", (2, 2), lambda: torch.zeros(2, 2))


def test_gallery_shows_escapes_searches_and_keeps_apart(client: TestClient) -> None:
    html = client.get("/ui/gallery").text
    assert html.count("dq-piece") == 2
    assert "a secret" not in html
    assert "<b>" not in html
    assert len(ids(client, "RED cat")) == 1
    newest = ids(client)
    assert ids(client, since="0", until="9e12", model="") == newest
    for nothing in ({"until": "1"}, {"since": "9e12"}, {"model": "elsewhere"}):
        assert ids(client, **nothing) == []
    assert ids(client, since="nan", until="soon", before="x") == newest, "what is no moment narrows nothing"
    assert "没有找到" in client.get("/ui/gallery?q=nothing", headers={"accept-language": "zh-CN"}).text


def test_pictures_are_deleted_brought_back_liked_and_packed(client: TestClient) -> None:
    both = ids(client)
    assert client.post("/ui/pictures", json={"ids": both}, headers={"x-owner": "wang"}).json() == {"count": 0}
    assert client.post("/ui/pictures", json={"ids": both[:1]}).json() == {"count": 1}
    assert ids(client) == both[1:]
    assert client.post("/ui/pictures", json={"ids": both, "restore": True}).json() == {"count": 1}
    assert [client.post("/ui/pictures", json={"ids": ids}).status_code for ids in (5, None, "x")] == [422] * 3
    assert ids(client) == both
    client.post("/ui/like", json={"picture": both[1], "liked": True})
    assert ids(client, liked="1") == both[1:]
    for answer in (
        client.get("/ui/zip", params={"ids": ",".join(both)}),
        client.post("/ui/zip", data={"ids": ",".join([*both, *(f"gone{n}" for n in range(2000)), both[0]])}),
    ):
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert archive.testzip() is None
            assert len(set(archive.namelist())) == len(archive.namelist()) == 2
    with zipfile.ZipFile(
        io.BytesIO(client.post("/ui/zip", data={"ids": both[0]}, headers={"x-owner": "wang"}).content)
    ) as none:
        assert none.namelist() == []
    many = [*both, *(f"gone{number}" for number in range(3000))]
    assert client.post("/ui/pictures", json={"ids": many}).json() == {"count": 2}
    assert client.post("/ui/pictures", json={"ids": many, "restore": True}).json() == {"count": 2}
    assert client.post("/ui/pictures", json={"ids": many * 4}).status_code == 422
    assert client.post("/ui/zip", data={"ids": ",".join(many * 4)}).status_code == 422


def test_settings_are_kept_per_reader_and_per_box(client: TestClient, data: Path) -> None:
    assert client.post("/ui/settings", json={"eta_noise_seed_delta": 31337}).status_code == 200
    mine, other = client.get("/ui/settings").text, client.get("/ui/settings", headers={"x-owner": "wang"}).text
    assert 'value="31337"' in mine
    assert 'value="31337"' not in other
    wang = {"x-owner": "wang"}
    assert client.post("/ui/settings?box=1", json={"eta_noise_seed_delta": 5}, headers=wang).status_code == 403
    assert client.get("/ui/settings?box=1", headers=wang).status_code == 403
    assert client.post("/ui/settings?box=1", json={"eta_noise_seed_delta": 5, "uni_pc_order": 2}).status_code == 200
    assert 'data-default="5"' in client.get("/ui/settings", headers=wang).text
    assert 'value="31337"' in client.get("/ui/settings").text, "what somebody set themselves stays"
    assert Options(data).of("wang")["uni_pc_order"] == 2, "kept on disk"
    client.post("/ui/settings?box=1", json={"eta_noise_seed_delta": 0})
    assert 'data-default="0"' in client.get("/ui/settings", headers=wang).text
    for bad in ({"emphasis": "loud"}, {"uni_pc_order": "x"}, {"token_merging_ratio": 9}):
        assert client.post("/ui/settings", json=bad).status_code >= 400
    client.post("/ui/settings", json={"sd_model_checkpoint": "x", "unknown": 1})
    assert "unknown" not in client.get("/ui/settings").text


def test_administrators_keep_settings_of_the_service_for_its_next_start(
    client: TestClient, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, wang = "/ui/settings?box=2", {"x-owner": "wang"}
    assert client.get(ask, headers=wang).status_code == client.post(ask, json={}, headers=wang).status_code == 403
    monkeypatch.setenv("DANQING_LIMIT_BATCH", "3")
    assert client.post(ask, json={"limit_steps": 99, "page_language": "zh", "label_embedded": True}).status_code == 200
    page = client.get(ask).text
    assert '<div class="dq-option dq-changed" data-key="limit_steps" data-default="150">' in page
    assert re.search(r'id="dq-opt-limit_steps" value="99"', page)
    assert re.search(r'id="dq-opt-limit_batch" disabled value="3"', page)
    assert "最长边" in client.get(ask, headers={"accept-language": "zh"}).text
    kept = Settings.load(house.ROWS, data)
    assert (kept.get_int("limit_steps"), kept.get_str("page_language"), kept.get_bool("label_embedded")) == (
        99,
        "zh",
        True,
    )
    before = (data / "settings.toml").read_bytes()
    for bad in (
        {"limit_steps": 0},
        {"limit_steps": "x"},
        {"page_language": "xx"},
        {"limit_batch": 2},
        {"engine_command": "sh"},
    ):
        answer = client.post(ask, json=bad, headers={"accept-language": "zh"})
        assert answer.status_code == 422, bad
        assert next(iter(bad)) in answer.json()["errors"]
    assert (data / "settings.toml").read_bytes() == before


def test_models_are_listed_with_the_reader_s_words(client: TestClient) -> None:
    html = client.get("/ui/models", headers={"accept-language": "zh-CN"}).text
    assert "danqing-mini.safetensors" in html
    assert "基础模型" in html
    assert "dq-upload" in html
    assert "dq-upload" not in client.get("/ui/models", headers={"x-owner": "wang"}).text


def test_a_model_comes_in_pieces_and_is_checked(client: TestClient, data: Path, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "new.safetensors", [tensor()], {})
    content = (tmp_path / "new.safetensors").read_bytes()
    where = "/ui/uploads/lora?name=new.safetensors"
    assert client.post(f"{where}&offset=0", content=content[:10]).json() == {"bytes": 10}
    assert client.post(f"{where}&offset=7&last=1", content=content[7:]).status_code >= 400
    assert client.post(f"{where}&offset=10&last=1", content=content[10:]).status_code == 200
    assert (data / "models" / "Lora" / "new.safetensors").read_bytes() == content
    assert client.post(f"{where}&offset=0", content=content).status_code >= 400, "it is there already"


@pytest.mark.parametrize("name", ["../x.pt", ".x.pt", "x.exe", "", "a\\x.pt", "x" * 300 + ".pt"])
def test_odd_names_are_refused(client: TestClient, name: str) -> None:
    answer = client.post("/ui/uploads/lora", params={"name": name, "offset": "0", "last": "1"}, content=b"x")
    assert answer.status_code >= 400


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_no_model_leaves_nothing_behind(client: TestClient, data: Path, kind: str) -> None:
    name = "bad" + KINDS[kind][1][0]
    where = {"name": name, "offset": "0", "last": "1"}
    assert client.post(f"/ui/uploads/{kind}", params=where, content=b"\x80\x04cos\nsystem\n").status_code >= 400
    assert not [path for path in data.rglob("*") if path.is_file() and path.stem == "bad"]
    assert not list((data / "cache" / "uploads").iterdir())
    refused = client.post(f"/ui/uploads/{kind}", params=where, content=b"x", headers={"x-owner": "wang"})
    assert refused.status_code >= 400
