"""What nobody should send: a clear 4xx of four keys, never a 500, never a hang, and the service goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.support import SMALL, assert_four_keys, draw
from tests.conftest import Server

HIRES: dict[str, Any] = {"enable_hr": True, "denoising_strength": 0.5}


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server.client()


@pytest.mark.parametrize(
    "sent",
    [
        {"width": 0},
        {"width": -8},
        {"height": 10**6},
        {"width": 4096, "height": 4096},
        {"steps": 0},
        {"steps": 10**9},
        {"cfg_scale": 10**9},
        {"cfg_scale": -(10**9)},
        {"seed": 10**30},
        {"batch_size": 0},
        {"batch_size": 10**6},
        {"n_iter": 0},
        {"n_iter": 10**9},
        {"batch_size": 16, "n_iter": 200},
        {"prompt": None},
        {"cfg_scale": None},
        {"steps": None},
        {"prompt": "x" * 2**20},
        {"prompt": "a\x00b"},
        {"eta": -1},
        {"eta": 1e300},
        {"override_settings": {"CLIP_stop_at_last_layers": 0}},
        {"override_settings": {"CLIP_stop_at_last_layers": "2"}},
        {"override_settings": {"samples_format": 5}},
        {"override_settings": {"sd_model_checkpoint": "x" * 2**20}},
        {"override_settings": {"sd_model_checkpoint": {"a": 1}}},
    ],
    ids=lambda sent: str(sent)[:60],
)
def test_out_of_bounds(client: httpx.Client, sent: dict[str, Any]) -> None:
    body = assert_four_keys(client.post("/sdapi/v1/txt2img", json={**SMALL, **sent}), 422)
    assert len(body["detail"]) < 1000


@pytest.mark.parametrize(
    ("sent", "error", "words"),
    [
        ({"enable_hr": True}, "InvalidField", "denoising_strength"),
        ({"enable_hr": True, "denoising_strength": 2.0}, "InvalidField", "denoising_strength"),
        ({**HIRES, "hr_upscaler": "nope"}, "UnknownUpscaler", "Lanczos"),
        ({**HIRES, "hr_sampler_name": "nope"}, "UnknownSampler", "DPM++ 2M"),
        ({**HIRES, "hr_scale": 1000}, "InvalidField", "hires"),
        ({**HIRES, "hr_resize_x": 8192}, "OutOfRange", "4096"),
        ({**HIRES, "width": 2048, "height": 2048}, "TooManyPixels", "8388608"),
        ({**HIRES, "hr_second_pass_steps": 151}, "OutOfRange", "150"),
        ({"subseed_strength": 1.5}, "InvalidField", "subseed_strength"),
        ({"seed_resize_from_w": 10**6, "seed_resize_from_h": 64}, "OutOfRange", "4096"),
        ({"s_churn": -1.0}, "OutOfRange", "s_churn"),
        ({"override_settings": {"emphasis": "Loud"}}, "InvalidField", "No norm"),
        ({"override_settings": {"eta_noise_seed_delta": "x"}}, "InvalidField", "eta_noise_seed_delta"),
        ({"batch_size": 17}, "OutOfRange", "16"),
        ({"batch_size": 16, "n_iter": 17}, "TooManyImages", "256"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named_with_its_limit(
    client: httpx.Client, sent: dict[str, Any], error: str, words: str
) -> None:
    body = assert_four_keys(client.post("/sdapi/v1/txt2img", json={**SMALL, **sent}), 422)
    assert body["error"] == error
    assert words in body["detail"]


@pytest.mark.parametrize(
    "sent",
    [{"refiner_checkpoint": "x", "refiner_switch_at": 0.5}, {**HIRES, "hr_checkpoint_name": "x"}],
    ids=["refiner", "hires"],
)
def test_unknown_models_of_a_request(client: httpx.Client, sent: dict[str, Any]) -> None:
    response = client.post("/sdapi/v1/txt2img", json={**SMALL, **sent}, headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    assert "没有名为“x”的模型" in assert_four_keys(response, 404)["detail"]


@pytest.mark.parametrize(
    "sent",
    [
        {"enable_hr": False, "hr_scale": 3.0, "denoising_strength": 0.7},
        {**HIRES, "hr_scale": 1.25, "hr_checkpoint_name": "None"},
        {"subseed": 5, "subseed_strength": 0},
        {"restore_faces": False, "tiling": False, "styles": ["no such style"]},
        {"s_churn": 0, "s_tmin": 0, "s_tmax": 0, "s_noise": 1},
        {"script_name": None, "script_args": [], "alwayson_scripts": {}},
        {"override_settings": {"sd_vae": "nope", "tiling": False, "emphasis": "Original"}},
        {"refiner_checkpoint": "None", "refiner_switch_at": 0.8},
        {"comments": {"a": 1}, "force_task_id": "task(x)", "do_not_save_grid": True},
        {"override_settings": [], "alwayson_scripts": "", "comments": []},
        {"override_settings": {"sd_vae": None, "jpeg_quality": None}},
    ],
    ids=str,
)
def test_harmless_defaults_pass(client: httpx.Client, sent: dict[str, Any]) -> None:
    draw(client, **sent)


@pytest.mark.parametrize(
    ("sent", "error", "detail", "errors"),
    [
        ({"script_name": "nope"}, "HTTPException", "Script 'nope' not found", ""),
        ({"script_name": "Loopback"}, "HTTPException", "Script 'Loopback' not found", ""),
        ({"alwayson_scripts": {"nope": {"args": []}}}, "HTTPException", "Script 'nope' not found", ""),
        (
            {"alwayson_scripts": {"X/Y/Z plot": {"args": []}}},
            "HTTPException",
            "Cannot have a selectable script in the always on scripts params",
            "",
        ),
        ({"override_settings": {"nope": 1}}, "KeyError", "", "'nope'"),
    ],
)
def test_words_that_clients_know(
    client: httpx.Client, sent: dict[str, Any], error: str, detail: str, errors: str
) -> None:
    body = assert_four_keys(client.post("/sdapi/v1/txt2img", json={**SMALL, **sent}), 422)
    assert (body["error"], body["detail"], body["errors"]) == (error, detail, errors)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b'{"cfg_scale": NaN}', "NotANumber"),
        (b'{"cfg_scale": Infinity}', "NotANumber"),
        (b'{"cfg_scale": 1e999}', "NotANumber"),
        (b'{"hr_scale": -Infinity}', "NotANumber"),
        (b'{"override_settings": {"jpeg_quality": NaN}}', "NotANumber"),
        (rb'{"prompt": "\ud800"}', "BrokenText"),
        (rb'{"override_settings": {"\udfff": 1}}', "BrokenText"),
        (rb'{"script_args": [["\ud83d"]]}', "BrokenText"),
        (b'{"comments": ' + b'{"a": ' * 100 + b"1" + b"}" * 101, "InvalidField"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_json_that_is_none(client: httpx.Client, raw: bytes, error: str) -> None:
    response = client.post("/sdapi/v1/txt2img", content=raw, headers={"Content-Type": "application/json"})
    assert assert_four_keys(response, 422)["error"] == error


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b'{"steps": "many"}',
        b'{"steps": 2.5}',
        b'{"seed": ' + b"9" * 5000 + b"}",
        b'{"prompt": ["a"]}',
        b"[" * 100_000,
    ],
    ids=lambda raw: repr(raw[:30]),
)
def test_wrong_types_get_the_usual_list(client: httpx.Client, raw: bytes) -> None:
    response = client.post("/sdapi/v1/txt2img", content=raw, headers={"Content-Type": "application/json"})
    assert response.status_code == 422, response.text
    assert {"loc", "msg", "type"} <= set(response.json()["detail"][0])


def test_unknown_path_and_method_are_plain(client: httpx.Client) -> None:
    nothing = client.get("/sdapi/v1/nope")
    assert (nothing.status_code, nothing.json()) == (404, {"detail": "Not Found"})
    wrong = client.get("/sdapi/v1/txt2img")
    assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})
    assert client.post("/sdapi/v1/samplers").status_code == 405
    assert client.options("/sdapi/v1/txt2img").status_code == 405
    assert client.get("/no/such/page").status_code == 404


@pytest.mark.parametrize("path", ["/sdapi/v1/samplers/", "//sdapi/v1/samplers", "//controlnet//version/"])
def test_slashes_too_many(client: httpx.Client, server: Server, path: str) -> None:
    plain = path.replace("//", "/").rstrip("/")
    assert client.get(server.base_url + path).json() == client.get(server.base_url + plain).json()


def test_json_that_does_not_say_so(client: httpx.Client) -> None:
    """As scripts post it; a browser's plain text is no JSON."""
    text = json.dumps({**SMALL, "steps": 1})
    assert client.post("/sdapi/v1/txt2img", content=text).status_code == 200
    plain = client.post("/sdapi/v1/txt2img", content=text, headers={"Content-Type": "text/plain"})
    assert plain.status_code == 422


def test_body_too_large(client: httpx.Client, server: Server) -> None:
    """By what is said before a byte is read, and by what is sent without saying."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as raw:
        head = "POST /sdapi/v1/txt2img HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n"
        raw.sendall(head.encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")

    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 2**20

    try:
        sent = client.post("/sdapi/v1/txt2img", content=pieces(), headers={"Content-Type": "application/json"})
    except httpx.TransportError:
        return  # the server hung up in the middle, as it may
    assert_four_keys(sent, 413)


def test_the_service_goes_on(client: httpx.Client) -> None:
    draw(client)
