"""/sd_extra_networks: pictures and metadata of models, and nothing else of the box."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

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
