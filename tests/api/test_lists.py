"""Routes that list: shapes as the WebUI's clients read them, contents that are true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from danqing.api.lists import memory_of_device
from tests.conftest import Server

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server.client()


def test_samplers(client: httpx.Client) -> None:
    rows = client.get("/sdapi/v1/samplers").json()
    assert rows[0] == {"name": "DPM++ 2M", "aliases": ["k_dpmpp_2m"], "options": {"scheduler": "karras"}}
    assert {"name": "Euler a", "aliases": ["k_euler_a", "k_euler_ancestral"], "options": {"uses_ensd": "True"}} in rows


def test_schedulers(client: httpx.Client) -> None:
    rows = client.get("/sdapi/v1/schedulers").json()
    assert len(rows) == 12
    assert rows[2] == {
        "name": "karras",
        "label": "Karras",
        "aliases": None,
        "default_rho": 7.0,
        "need_inner_model": False,
    }
    assert rows[5]["aliases"] == ["SGMUniform"]


def test_sd_models(client: httpx.Client) -> None:
    (row,) = client.get("/sdapi/v1/sd-models").json()
    assert set(row) == {"title", "model_name", "hash", "sha256", "filename", "config"}
    assert row["title"].startswith(row["model_name"] + ".safetensors")
    if row["sha256"]:
        assert row["hash"] == row["sha256"][:10]
        assert row["title"].endswith(f"[{row['hash']}]")


@pytest.mark.parametrize("path", ["sd-vae", "hypernetworks", "loras", "extensions"])
def test_what_is_not_on_disk_is_not_listed(client: httpx.Client, path: str) -> None:
    assert client.get(f"/sdapi/v1/{path}").json() == []


SAME = ("samplers", "schedulers", "latent-upscale-modes", "face-restorers", "extensions", "embeddings")
"""Lists that every WebUI answers alike."""


def recorded(name: str) -> Any:
    path = REFERENCE / "lists" / f"{name}.json"
    if not path.is_file():
        pytest.skip("the recordings are not here")
    return json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("name", SAME)
def test_lists_are_the_webuis(client: httpx.Client, name: str) -> None:
    assert client.get(f"/sdapi/v1/{name}").json() == recorded(name)


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


@pytest.mark.parametrize("name", ["upscalers", "realesrgan-models", "sd-models", "progress", "scripts"])
def test_lists_have_the_webuis_shape(client: httpx.Client, name: str) -> None:
    assert shape(client.get(f"/sdapi/v1/{name}").json()) == shape(recorded(name))


def test_real_esrgans_are_in_the_webuis_order(client: httpx.Client) -> None:
    ours, theirs = client.get("/sdapi/v1/realesrgan-models").json(), recorded("realesrgan-models")
    assert [(row["name"], row["scale"]) for row in ours] == [(row["name"], row["scale"]) for row in theirs]


def test_options_are_the_webuis(client: httpx.Client) -> None:
    ours, theirs = client.get("/sdapi/v1/options").json(), recorded("options")
    assert list(ours) == list(theirs)
    # Numbers are numbers; `None` is the WebUI's word for a text that nobody has set yet.
    kinds = {key: [float if type(one) is int else type(one) for one in (ours[key], theirs[key])] for key in theirs}
    assert {
        key for key, (one, other) in kinds.items() if one is not other and None not in (ours[key], theirs[key])
    } == set()


def test_scripts_and_their_arguments(client: httpx.Client) -> None:
    theirs = {(row["name"], row["is_img2img"]): row for row in recorded("script-info")}
    ours = {(row["name"], row["is_img2img"]): row for row in client.get("/sdapi/v1/script-info").json()}
    assert {name for name, _ in theirs} - {name for name, _ in ours} <= {"hypertile"}
    for key in ours.keys() & theirs.keys():
        ours_labels, their_labels = ([arg["label"] for arg in rows[key]["args"]] for rows in (ours, theirs))
        assert ours_labels == their_labels, key
        assert ours[key]["is_alwayson"] == theirs[key]["is_alwayson"]
    for tab in (False, True):
        axes = ours["x/y/z plot", tab]["args"][0]["choices"]
        theirs_axes = theirs["x/y/z plot", tab]["args"][0]["choices"]
        assert axes[:40] == theirs_axes[:40]
    assert ours["sampler", False] == theirs["sampler", False]


def test_upscalers_and_modes(client: httpx.Client) -> None:
    assert [row["name"] for row in client.get("/sdapi/v1/upscalers").json()][:3] == ["None", "Lanczos", "Nearest"]


def test_prompt_styles_are_read_from_the_file(client: httpx.Client, server: Server) -> None:
    file = server.data / "styles.csv"
    assert client.get("/sdapi/v1/prompt-styles").json() == []
    file.write_text('name,prompt,negative_prompt\nink,"{prompt}, ink wash",colour\n,lost,\n', "utf-8-sig")
    try:
        expected = [{"name": "ink", "prompt": "{prompt}, ink wash", "negative_prompt": "colour"}]
        assert client.get("/sdapi/v1/prompt-styles").json() == expected
        asked = {"prompt": "x", "width": 64, "height": 64, "steps": 1, "styles": ["ink", "no such style"]}
        info = json.loads(client.post("/sdapi/v1/txt2img", json=asked).json()["info"])
        assert (info["prompt"], info["negative_prompt"]) == ("x, ink wash", "colour")
    finally:
        file.unlink()


def test_cmd_flags(client: httpx.Client, server: Server) -> None:
    flags = client.get("/sdapi/v1/cmd-flags").json()
    assert flags["port"] == server.port
    assert flags["medvram"] is False
    assert flags["api"] is True
    assert len(flags) > 120


def test_memory(client: httpx.Client) -> None:
    told = client.get("/sdapi/v1/memory").json()
    assert 0 < told["ram"]["used"] < told["ram"]["total"]
    assert told["cuda"] == {"error": "unavailable"}


def test_memory_of_a_gpu() -> None:
    """The engine's numbers in the WebUI's shape (spec 3)."""
    told = memory_of_device({"engine_device_bytes": 16.0, "engine_device_free": 10.0, "engine_memory_active_peak": 5.0})
    assert told["system"] == {"free": 10, "used": 6, "total": 16}
    assert told["active"] == {"current": 0, "peak": 5}
    assert list(told) == ["system", "active", "allocated", "reserved", "inactive", "events"]
    assert told["events"] == {"retries": 0, "oom": 0}


def test_embeddings_say_how_they_were_trained(client: httpx.Client, server: Server) -> None:
    told = {"step": 700, "sd_checkpoint": "0123456789", "sd_checkpoint_name": "old-model"}
    folder = server.data / "embeddings"
    folder.mkdir(exist_ok=True)
    torch.save({"string_to_param": {"*": torch.ones(2, 768)}, **told}, folder / "trained.pt")
    found = client.get("/sdapi/v1/embeddings").json()["loaded"]["trained"]
    assert found == {**told, "shape": 768, "vectors": 2}
    (folder / "trained.pt").unlink()


@pytest.mark.parametrize("kind", ["checkpoints", "vae", "loras", "embeddings"])
def test_refreshing_is_allowed(client: httpx.Client, kind: str) -> None:
    answer = client.post(f"/sdapi/v1/refresh-{kind}")
    assert (answer.status_code, answer.json()) == (200, None)


def test_control_is_among_the_scripts(client: httpx.Client) -> None:
    """Programs look there whether they may send units."""
    found = client.get("/sdapi/v1/scripts").json()
    assert "controlnet" in found["txt2img"]
    assert "controlnet" in found["img2img"]


def test_gzip_and_time(client: httpx.Client) -> None:
    packed = client.get("/sdapi/v1/options", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    plain = client.get("/sdapi/v1/options", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.json() == packed.json()
    assert 0 <= float(plain.headers["x-process-time"]) < 60


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_docs_need_nothing_from_elsewhere(client: httpx.Client, path: str) -> None:
    page = client.get(path)
    assert page.status_code == 200
    for word in ("/sdapi/v1/txt2img", "cfg_scale", "/sdapi/v1/png-info"):
        assert word in page.text
    assert "://" not in page.text
    schema = client.get("/openapi.json").json()
    assert {"/sdapi/v1/txt2img", "/sdapi/v1/options"} <= set(schema["paths"])
