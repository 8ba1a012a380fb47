"""The label of what AI made leaves the box with the picture, by whatever door: a server that asks for both kinds of it."""

from __future__ import annotations

import base64
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Server, start_server
from tests.gallery.test_labels import label_of

FAKE = Path(__file__).parents[1] / "jobs" / "fake_engine.py"
DRAWN = {"prompt": "a cat", "width": 64, "height": 64, "steps": 1, "seed": 1}


@pytest.fixture(scope="module")
def labelling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {
        "DANQING_ENGINE_COMMAND": f"{sys.executable} {FAKE}",
        "DANQING_LABEL_EMBEDDED": "true",
        "DANQING_LABEL_VISIBLE": "zh",
        "DANQING_PROMPT_BLOCKLIST": "gore, 血腥",
    }
    running = start_server(tmp_path_factory.mktemp("labels") / "data", environment=environment)
    yield running
    running.stop()


def txt2img(client: httpx.Client, kind: str, **more: Any) -> list[bytes]:
    body = {**DRAWN, "save_images": True, "override_settings": {"samples_format": kind}, **more}
    answer = client.post("/sdapi/v1/txt2img", json=body)
    answer.raise_for_status()
    return [base64.b64decode(one) for one in answer.json()["images"]]


def test_the_label_leaves_with_the_picture(labelling: Server) -> None:
    ways: dict[str, bytes] = {}
    with labelling.client() as client:
        for kind in ("png", "jpg", "webp"):
            ways[kind] = txt2img(client, kind)[0]
        ways["grid"] = txt2img(client, "png", n_iter=2)[0]
        ways["grid as JPEG"] = txt2img(client, "jpg", n_iter=2)[0]
        enlarged = {"image": base64.b64encode(ways["png"]).decode(), "upscaling_resize": 2, "upscaler_1": "Lanczos"}
        ways["extras"] = base64.b64decode(client.post("/sdapi/v1/extra-single-image", json=enlarged).json()["image"])
        wish = {"prompt": "a cat", "size": "64x64", "steps": 1}
        told = client.post("/v1/images/generations", json={**wish, "response_format": "b64_json"}).json()
        ways["b64_json"] = base64.b64decode(told["data"][0]["b64_json"])
        told = client.post("/v1/images/generations", json=wish).json()
        address = told["data"][0]["url"]
        ways["url"] = client.get(address).content
        picture = address.rsplit("/", 1)[1]
        ways["download"] = client.get(f"/pictures/{picture}?download=1").content
        shared = client.post(f"/v1/images/{picture}/share", json={}).json()
        ways["share"] = client.get(shared["path"]).content
        with zipfile.ZipFile(io.BytesIO(client.get("/v1/export").content)) as archive:
            ways |= {name: archive.read(name) for name in archive.namelist() if name.endswith(".png")}
    ways |= {path.name: path.read_bytes() for path in (labelling.data / "outputs").rglob("*.png")}
    assert len(ways) > 15
    for way, data in ways.items():
        assert label_of(data)["ContentProducer"] == "danqing", way


def test_a_blocked_prompt_is_refused_by_every_door(labelling: Server) -> None:
    with labelling.client() as client:
        doors = (
            client.post("/sdapi/v1/txt2img", json={**DRAWN, "prompt": "much gore"}),
            client.post("/v1/jobs", json={**DRAWN, "kind": "txt2img", "prompt": "很血腥"}),
            client.post("/v1/images/generations", json={"prompt": "a (gore:1.2) scene", "size": "64x64"}),
        )
    for answer in doors:
        assert answer.status_code == 422, answer.text
        assert any(word in str(answer.json()) for word in ("gore", "血腥"))
