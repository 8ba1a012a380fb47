"""/sd_extra_networks: pictures and metadata of models, and nothing else of the box."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from danqing.api.cards import Cards
from danqing.library.index import Library
from tests.conftest import Server


def png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def lora(quick_server: Server) -> Path:
    """A LoRA with a picture beside it and another one inside."""
    path = quick_server.data / "models" / "Lora" / "carded.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    cover = base64.b64encode(png("blue")).decode()
    metadata = {"ss_network_dim": "4", "ssmd_cover_images": json.dumps([cover, "no picture", "bm8gcGljdHVyZQ=="])}
    save_file({"lora_unet_x.lora_down.weight": np.zeros((4, 4), np.float32)}, path, metadata)
    path.with_suffix(".preview.png").write_bytes(png("red"))
    return path


def test_a_picture_beside_a_model(quick_server: Server, lora: Path) -> None:
    client = quick_server.client()
    card = client.get("/sd_extra_networks/get-single-card", params={"page": "lora", "name": "carded"}).json()["html"]
    beside = lora.with_suffix(".preview.png")
    assert "&lt;lora:carded:1&gt;" in card
    assert "preview" in card
    answer = client.get("/sd_extra_networks/thumb", params={"filename": str(beside)})
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, png("red"), "image/png")


@pytest.mark.parametrize("name", ["models/Lora/carded.safetensors", "danqing.db", "models/Lora/../../danqing.db", ""])
def test_no_other_file_is_answered(quick_server: Server, lora: Path, name: str) -> None:
    for path in (str(quick_server.data / name), name, "/etc/passwd"):
        answer = quick_server.client().get("/sd_extra_networks/thumb", params={"filename": path})
        assert (answer.status_code, answer.json()) == (404, {"detail": "File not found"})


def cover(client: httpx.Client, item: str, index: object) -> httpx.Response:
    return client.get("/sd_extra_networks/cover-images", params={"page": "lora", "item": item, "index": str(index)})


def test_pictures_inside_a_model(quick_server: Server, lora: Path) -> None:
    client = quick_server.client()
    inside = cover(client, "carded", 0)
    assert Image.open(io.BytesIO(inside.content)).convert("RGB").getpixel((0, 0)) == (0, 0, 255)
    for item, index in (("carded", 1), ("carded", 9), ("carded", -1), ("none", 0)):
        assert cover(client, item, index).status_code == 404
    assert cover(client, "carded", "x").status_code == 422


def test_metadata_without_the_pictures(quick_server: Server, lora: Path) -> None:
    client = quick_server.client()
    ask = {"page": "lora", "item": "carded"}
    told = json.loads(client.get("/sd_extra_networks/metadata", params=ask).json()["metadata"])
    assert told == {"ss_network_dim": "4"}
    for ask in ({"page": "lora", "item": "none"}, {"page": "none", "item": "carded"}, {}):
        assert client.get("/sd_extra_networks/metadata", params=ask).json() == {}


def test_checkpoints_have_cards(quick_server: Server) -> None:
    client = quick_server.client()
    name = client.get("/sdapi/v1/sd-models").json()[0]["model_name"]
    card = client.get("/sd_extra_networks/get-single-card", params={"page": "checkpoints", "name": name}).json()
    assert f'data-name="{name}"' in card["html"]


def test_a_page_of_cards_looks_through_the_folders_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again when a picture came or went; however many cards there are."""
    folder = tmp_path / "models" / "Lora" / "styles"
    folder.mkdir(parents=True)
    for number in range(40):
        (folder / f"{number}.safetensors").write_bytes(b"")
        (folder / f"{number}.preview.png").write_bytes(png("red"))
    for root, _, _ in os.walk(tmp_path):
        os.utime(root, (1e9, 1e9))
    listed: list[Any] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path=".": listed.append(path) or scandir(path))  # type: ignore[func-returns-value]
    data: Any = SimpleNamespace(library=Library(tmp_path), logins=SimpleNamespace(data=tmp_path))
    cards = Cards(data)

    def status(name: str) -> int:
        return asyncio.run(cards.thumb(str(folder / name))).status_code

    assert [status(f"{number}.preview.png") for number in range(40)] == [200] * 40
    once = len(listed)
    assert once < 20
    assert [status("0.safetensors"), status("none.png")] == [404, 404]
    assert len(listed) == once
    (folder / "0.preview.png").unlink()
    (folder / "1.preview.png").replace(folder / "1.webp")
    os.utime(folder, (2e9, 2e9))
    assert [status(name) for name in ("0.preview.png", "1.preview.png", "1.webp", "2.preview.png")] == [
        404,
        404,
        200,
        200,
    ]
    # The folder changed just now, as far as its time tells: it is looked at once more a moment later.
    folder_time = time.time()
    os.utime(folder, (folder_time, folder_time))
    assert status("2.preview.png") == 200
    (folder / "2.preview.png").unlink()
    os.utime(folder, (folder_time, folder_time))
    cards._previews._once_more = time.monotonic() - 1
    assert status("2.preview.png") == 404
