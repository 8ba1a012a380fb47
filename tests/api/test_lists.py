"""Routes that list: shapes as the WebUI's clients read them, contents that are true."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.conftest import Server


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


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("sd-vae", []),
        ("hypernetworks", []),
        ("loras", []),
        ("face-restorers", []),
        ("realesrgan-models", []),
        ("extensions", []),
        ("embeddings", {"loaded": {}, "skipped": {}}),
        ("scripts", {"txt2img": [], "img2img": []}),
        ("script-info", []),
    ],
)
def test_nothing_is_listed_before_it_works(client: httpx.Client, path: str, expected: object) -> None:
    assert client.get(f"/sdapi/v1/{path}").json() == expected


def test_upscalers_and_modes(client: httpx.Client) -> None:
    assert [row["name"] for row in client.get("/sdapi/v1/upscalers").json()] == ["None", "Lanczos", "Nearest"]
    modes = client.get("/sdapi/v1/latent-upscale-modes").json()
    assert modes[0] == {"name": "Latent"}
    assert len(modes) == 6


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


@pytest.mark.parametrize("kind", ["checkpoints", "vae", "loras", "embeddings"])
def test_refreshing_is_allowed(client: httpx.Client, kind: str) -> None:
    answer = client.post(f"/sdapi/v1/refresh-{kind}")
    assert (answer.status_code, answer.json()) == (200, None)


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
