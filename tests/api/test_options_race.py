"""Two clients that set different checkpoints and draw at the same time: each gets its own model's pictures, every time."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from danqing.library.index import MINI
from tests.conftest import Server, start_server

DRAWS = 50
BODY: dict[str, Any] = {
    "prompt": "a red circle",
    "width": 64,
    "height": 64,
    "steps": 1,
    "sampler_name": "Euler",
    "seed": 7,
}


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    data = tmp_path_factory.mktemp("race") / "data"
    folder = data / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    for name, factor in (("first", 1.0), ("second", 0.5)):
        weights = load_file(MINI)
        weights["model.diffusion_model.out.2.weight"] *= np.asarray(factor, np.float16)
        save_file(weights, folder / f"{name}.safetensors")
        for beside in (".yaml", ".json"):
            (folder / f"{name}{beside}").write_text(MINI.with_suffix(beside).read_text("utf-8"), "utf-8")
    running = start_server(data)
    yield running
    running.stop()


def draw(client: httpx.Client, **more: Any) -> tuple[np.ndarray[Any, Any], str]:
    answer = client.post("/sdapi/v1/txt2img", json={**BODY, **more})
    assert answer.status_code == 200, answer.text
    picture = Image.open(io.BytesIO(base64.b64decode(answer.json()["images"][0])))
    return np.asarray(picture.convert("RGB"), np.int16), str(picture.info["parameters"])


def own_client(server: Server, model: str) -> httpx.Client:
    client = server.client(cookies={"danqing_client": model})
    assert client.post("/sdapi/v1/options", json={"sd_model_checkpoint": model}).status_code == 200
    return client


def test_each_client_keeps_its_checkpoint(two_models: Server) -> None:
    clients = {name: own_client(two_models, name) for name in ("first", "second")}
    alone = {name: draw(client)[0] for name, client in clients.items()}
    assert np.abs(alone["first"] - alone["second"]).max() > 8

    def work(name: str) -> list[tuple[np.ndarray[Any, Any], str]]:
        return [draw(clients[name]) for _ in range(DRAWS)]

    with ThreadPoolExecutor(2) as pool:
        drawn = dict(zip(clients, pool.map(work, clients), strict=True))
    for name, pictures in drawn.items():
        assert len(pictures) == DRAWS
        for picture, infotext in pictures:
            assert f"Model: {name}," in infotext
            assert np.abs(picture - alone[name]).max() <= 1
        assert clients[name].get("/sdapi/v1/options").json()["sd_model_checkpoint"].startswith(name)


def test_a_client_may_change_its_mind_between_two_pictures(two_models: Server) -> None:
    client = two_models.client(cookies={"danqing_client": "third"})
    for name in ("first", "second", "first"):
        client.post("/sdapi/v1/options", json={"sd_model_checkpoint": name})
        assert f"Model: {name}," in draw(client)[1]
