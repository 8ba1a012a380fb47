"""Scripts by title and list of arguments, as the WebUI's clients send them."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.api.support import SMALL, assert_four_keys, base64_of, draw, image_of
from tests.conftest import Server


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server.client()


def test_prompt_matrix(client: httpx.Client) -> None:
    answer = draw(client, prompt="a|b", script_name="Prompt matrix", script_args=[False, False, "positive", "comma", 0])
    assert len(answer["images"]) == 3  # the grid and "a", "a, b"
    assert image_of(answer["images"][1]).size == (64, 64)


def test_prompts_from_text(client: httpx.Client) -> None:
    lines = [True, False, "start", 'a red circle\n--prompt "a blue square" --steps 3']
    answer = draw(client, prompt="", script_name="prompts from file or textbox", script_args=lines)
    assert [text.split("\n")[0] for text in answer["info"]["infotexts"]] == ["a red circle", "a blue square"]
    assert "Steps: 3" in answer["info"]["infotexts"][1]


@pytest.mark.parametrize("axis", ["Steps", 4])
def test_xyz_plot(client: httpx.Client, axis: Any) -> None:
    args = [axis, "1,2", [], 0, "", [], 0, "", [], True, True, False, False, False, False, False, 0, False]
    answer = draw(client, script_name="X/Y/Z plot", script_args=args)
    assert len(answer["images"]) == 3
    assert 'Script: X/Y/Z plot, X Type: Steps, X Values: "1,2"' in answer["info"]["infotexts"][0]
    assert image_of(answer["images"][0]).height > 64  # a legend stands above


def test_scripts_of_image_to_image(client: httpx.Client) -> None:
    picture = base64_of(Image.new("RGB", (64, 64), "navy"))
    common = {**SMALL, "init_images": [picture], "denoising_strength": 0.5}
    loop = client.post(
        "/sdapi/v1/img2img", json={**common, "script_name": "loopback", "script_args": [2, 0.5, "Linear"]}
    )
    assert loop.status_code == 200, loop.text
    upscale = {"script_name": "SD upscale", "script_args": ["", 16, "Lanczos", 2.0]}
    large = client.post("/sdapi/v1/img2img", json={**common, **upscale})
    assert large.status_code == 200, large.text
    assert image_of(large.json()["images"][0]).size == (128, 128)
    assert "SD upscale overlap: 16" in json.loads(large.json()["info"])["infotexts"][0]
    numbered = client.post("/sdapi/v1/img2img", json={**common, **upscale, "script_args": ["", 16, 1, 2.0]})
    assert "SD upscale upscaler: Lanczos" in json.loads(numbered.json()["info"])["infotexts"][0]


@pytest.mark.parametrize(
    "always",
    [{"Sampler": {"args": []}, "SEED": {}, "refiner": {"args": [False]}}, {"ControlNet": {"args": []}}],
    ids=str,
)
def test_always_on_scripts_that_say_nothing(client: httpx.Client, always: dict[str, Any]) -> None:
    assert draw(client, alwayson_scripts=always)["images"] == draw(client)["images"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([99], "axis"),
        (["no such axis", "1"], "no such axis"),
        (["Steps", "one,two"], "one"),
        (["Steps", ",".join(str(n) for n in range(1, 151)), [], "Seed", "1-100"], "256"),
        (["Steps", "1000000"], "150"),
        (["Size", "100000x64"], "4096"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_arguments_that_do_not_fit(client: httpx.Client, args: list[Any], words: str) -> None:
    sent = {**SMALL, "script_name": "X/Y/Z plot", "script_args": args}
    body = assert_four_keys(client.post("/sdapi/v1/txt2img", json=sent), 422)
    assert words in body["detail"]


@pytest.mark.parametrize(
    "sent",
    [
        {"script_name": "SD upscale", "script_args": ["", 64, "Nearest", 4.0]},
        {"script_name": "SD upscale", "script_args": ["", 256, "None"]},
        {"script_name": "Poor man's outpainting", "script_args": [256, 4, "fill", ["left"]]},
    ],
    ids=str,
)
def test_tiles_have_a_limit(client: httpx.Client, sent: dict[str, Any]) -> None:
    """An overlap as wide as a tile would make one of every pixel."""
    picture = base64_of(Image.new("RGB", (512, 512), "navy"))
    body = {**SMALL, "init_images": [picture], "denoising_strength": 0.5, **sent}
    found = assert_four_keys(client.post("/sdapi/v1/img2img", json=body), 422)
    assert (found["error"], "1024" in found["detail"]) == ("TooManyImages", True)


@pytest.mark.parametrize("args", [["false", "False", "Positive", "COMMA", "0"], [0, None, 0, 0.0]], ids=str)
def test_arguments_in_other_types(client: httpx.Client, args: list[Any]) -> None:
    plain = draw(client, prompt="a|b", script_name="Prompt matrix")["images"]
    assert draw(client, prompt="a|b", script_name="Prompt matrix", script_args=args)["images"] == plain


@pytest.mark.parametrize("args", [["perhaps"], [False, False, "neither"], [False, False, 2]], ids=str)
def test_arguments_that_are_none_of_the_choices(client: httpx.Client, args: list[Any]) -> None:
    sent = {**SMALL, "prompt": "a|b", "script_name": "Prompt matrix", "script_args": args}
    assert assert_four_keys(client.post("/sdapi/v1/txt2img", json=sent), 422)["error"] == "InvalidField"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--prompt a --width 100000", "4096"),
        ("--prompt a --width 0", "4096"),
        ("--prompt a --steps 1000000", "150"),
        ("--prompt a --n_iter 200\n--prompt b --n_iter 200", "256"),
        ("--prompt a --subseed_strength 5", "subseed_strength"),
    ],
)
def test_lines_have_the_limits_of_requests(client: httpx.Client, line: str, words: str) -> None:
    args = [False, False, "start", line]
    sent = {**SMALL, "prompt": "", "script_name": "Prompts from file or textbox", "script_args": args}
    assert words in assert_four_keys(client.post("/sdapi/v1/txt2img", json=sent), 422)["detail"]


@pytest.mark.parametrize(
    "sent",
    [
        {"prompt": "|".join("ab" * 500), "script_name": "prompt matrix"},
        {"script_name": "prompts from file or textbox", "script_args": [False, False, "start", "x\n" * 257]},
    ],
    ids=["matrix", "lines"],
)
def test_too_many_pictures_are_refused_at_once(client: httpx.Client, sent: dict[str, Any]) -> None:
    body = assert_four_keys(client.post("/sdapi/v1/txt2img", json={**SMALL, **sent}), 422)
    assert body["error"] == "TooManyImages"
