"""Drawing over HTTP: the answer's shape, what is echoed, formats, grids, overrides."""

from __future__ import annotations

import json
import re
import threading
import time
from typing import Any

import httpx
import pytest

from tests.api.support import SMALL, draw, image_of
from tests.conftest import Server

INFO_KEYS = [
    "prompt",
    "all_prompts",
    "negative_prompt",
    "all_negative_prompts",
    "seed",
    "all_seeds",
    "subseed",
    "all_subseeds",
    "subseed_strength",
    "width",
    "height",
    "sampler_name",
    "cfg_scale",
    "steps",
    "batch_size",
    "restore_faces",
    "face_restoration_model",
    "sd_model_name",
    "sd_model_hash",
    "sd_vae_name",
    "sd_vae_hash",
    "seed_resize_from_w",
    "seed_resize_from_h",
    "denoising_strength",
    "extra_generation_params",
    "index_of_first_image",
    "infotexts",
    "styles",
    "job_timestamp",
    "clip_skip",
    "is_using_inpainting_conditioning",
    "version",
]


@pytest.fixture
def client(server: Server) -> httpx.Client:
    return server.client()


@pytest.fixture(scope="module")
def plain(server: Server) -> list[str]:
    """What is drawn without a wish."""
    with server.client() as client:
        images: list[str] = draw(client)["images"]
    return images


def test_answer(client: httpx.Client) -> None:
    response = client.post("/sdapi/v1/txt2img", json={**SMALL, "n_iter": 2, "unknown_field": 1})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert list(answer) == ["images", "parameters", "info"]
    assert isinstance(answer["info"], str)
    info = json.loads(answer["info"])
    assert list(info) == INFO_KEYS
    assert (info["seed"], info["all_seeds"]) == (7, [7, 8])
    assert info["sampler_name"] == "Euler"
    assert re.fullmatch(r"\d{14}", info["job_timestamp"])
    pictures = [image_of(text) for text in answer["images"]]
    assert [picture.size for picture in pictures] == [(64, 64)] * 2
    assert [picture.info["parameters"] for picture in pictures] == info["infotexts"]
    assert "Steps: 2, Sampler: Euler, Schedule type: Automatic, CFG scale: 7.0, Seed: 8" in info["infotexts"][1]


def test_parameters_echo_every_field(client: httpx.Client) -> None:
    parameters = draw(client, cfg_scale=7)["parameters"]
    assert parameters["cfg_scale"] == 7.0
    assert parameters["sampler_name"] is None
    assert parameters["sampler_index"] == "Euler"
    assert parameters["hr_scale"] == 2.0
    assert parameters["alwayson_scripts"] == {}
    assert "unknown_field" not in parameters
    assert len(parameters) == 55


def test_same_seed_same_bytes(client: httpx.Client) -> None:
    assert draw(client)["images"] == draw(client)["images"]
    assert draw(client)["images"] != draw(client, seed=8)["images"]


@pytest.mark.parametrize(
    ("sent", "sampler", "schedule"),
    [
        ({"sampler_name": "no such sampler"}, "DPM++ 2M", "Karras"),
        ({"sampler_name": "k_euler_a"}, "DPM++ 2M", "Karras"),
        ({"sampler_name": "euler a"}, "DPM++ 2M", "Karras"),
        ({"sampler_name": "Euler a Karras"}, "Euler a", "Karras"),
        ({"sampler_name": "Euler", "scheduler": "Exponential"}, "Euler", "Exponential"),
        ({"sampler_name": "Euler", "scheduler": "no such schedule"}, "Euler", "Automatic"),
        ({"sampler_index": "Heun"}, "Heun", "Automatic"),
        ({}, "Euler", "Automatic"),
    ],
)
def test_silent_resolution(client: httpx.Client, sent: dict[str, str], sampler: str, schedule: str) -> None:
    info = draw(client, **sent)["info"]
    assert info["sampler_name"] == sampler
    assert f"Sampler: {sampler}, Schedule type: {schedule}," in info["infotexts"][0]


def test_sizes_are_floored_to_eight(client: httpx.Client) -> None:
    answer = draw(client, width=100, height=70)
    assert image_of(answer["images"][0]).size == (96, 64)
    assert (answer["info"]["width"], answer["info"]["height"]) == (100, 70)
    assert "Size: 100x70" in answer["info"]["infotexts"][0]


def test_grid_comes_with_save_images(client: httpx.Client, server: Server) -> None:
    answer = draw(client, batch_size=3, save_images=True)
    assert answer["info"]["index_of_first_image"] == 1
    assert len(answer["images"]) == len(answer["info"]["infotexts"]) == 4
    assert image_of(answer["images"][0]).size == (128, 128)
    assert len(list((server.data / "outputs" / "txt2img-images").glob("*/*-7.png"))) >= 1
    assert len(draw(client, batch_size=3)["images"]) == 3
    asked = {"batch_size": 2, "save_images": True}
    assert len(draw(client, **asked, override_settings={"return_grid": False})["images"]) == 2
    column = draw(client, **asked, override_settings={"n_rows": 2})["images"][0]
    assert image_of(column).size == (64, 128)


def test_send_images_false(client: httpx.Client) -> None:
    answer = draw(client, send_images=False)
    assert answer["images"] == []
    assert len(answer["info"]["infotexts"]) == 1


@pytest.mark.parametrize(("form", "kind"), [("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG")])
def test_formats_carry_the_infotext(client: httpx.Client, form: str, kind: str) -> None:
    client.post("/sdapi/v1/options", json={"samples_format": form})
    try:
        answer = draw(client, override_settings={"samples_format": "png"})
        assert image_of(answer["images"][0]).format == kind
        told = client.post("/sdapi/v1/png-info", json={"image": answer["images"][0]}).json()
        assert told["info"] == answer["info"]["infotexts"][0]
    finally:
        client.post("/sdapi/v1/options", json={"samples_format": "png"})


def test_overrides_end_with_the_request(client: httpx.Client) -> None:
    answer = draw(client, override_settings={"CLIP_stop_at_last_layers": 2, "randn_source": "CPU"})
    assert "Clip skip: 2, RNG: CPU" in answer["info"]["infotexts"][0]
    assert answer["info"]["clip_skip"] == 2
    assert client.get("/sdapi/v1/options").json()["CLIP_stop_at_last_layers"] == 1
    draw(client, override_settings={"CLIP_stop_at_last_layers": 2}, override_settings_restore_afterwards=False)
    try:
        assert draw(client)["info"]["clip_skip"] == 2
    finally:
        client.post("/sdapi/v1/options", json={"CLIP_stop_at_last_layers": 1})


def test_unknown_model_in_overrides_is_ignored(client: httpx.Client) -> None:
    here = draw(client)["info"]["sd_model_name"]
    assert draw(client, override_settings={"sd_model_checkpoint": "nope"})["info"]["sd_model_name"] == here
    models = client.get("/sdapi/v1/sd-models").json()
    assert draw(client, override_settings={"sd_model_checkpoint": models[0]["title"]})["info"]["sd_model_name"] == here


def test_infotext_fills_what_the_body_leaves_out(client: httpx.Client) -> None:
    text = "a blue square\nNegative prompt: red\nSteps: 3, Sampler: Heun, CFG scale: 4, Seed: 11, Size: 72x64, Clip skip: 2"
    response = client.post("/sdapi/v1/txt2img", json={"infotext": text, "seed": 12})
    assert response.status_code == 200, response.text
    info = json.loads(response.json()["info"])
    assert (info["prompt"], info["negative_prompt"], info["seed"]) == ("a blue square", "red", 12)
    assert (info["steps"], info["sampler_name"], info["width"], info["clip_skip"]) == (3, "Heun", 72, 2)
    assert response.json()["parameters"]["steps"] == 3


def test_infotext_fills_hires_and_options(client: httpx.Client) -> None:
    text = (
        "a blue square\nSteps: 2, Sampler: Euler a, Schedule type: Karras, CFG scale: 4, Seed: 11, Size: 64x64, "
        "Denoising strength: 0.4, ENSD: 31337, Hires upscale: 1.5, Hires steps: 1, Hires upscaler: Lanczos, "
        "Hires prompt: red, Emphasis: No norm, Version: v1.10.1"
    )
    response = client.post("/sdapi/v1/txt2img", json={"infotext": text})
    assert response.status_code == 200, response.text
    parameters = response.json()["parameters"]
    assert (parameters["enable_hr"], parameters["hr_scale"], parameters["hr_prompt"]) == (True, 1.5, "red")
    assert parameters["override_settings"]["eta_noise_seed_delta"] == 31337
    assert parameters["override_settings"]["emphasis"] == "No norm"
    assert image_of(response.json()["images"][0]).size == (96, 96)
    told = json.loads(response.json()["info"])["infotexts"][0]
    for words in ("Schedule type: Karras", "ENSD: 31337", "Hires upscale: 1.5", "Hires steps: 1", "Hires prompt: red"):
        assert words in told
    again = client.post("/sdapi/v1/txt2img", json={"infotext": told})
    assert again.json()["images"] == response.json()["images"]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"enable_hr": True, "denoising_strength": 0.5}, "Hires upscale: 2.0, Version: "),
        (
            {"enable_hr": True, "denoising_strength": 0.5, "hr_upscaler": "Lanczos", "hr_resize_x": 96},
            "Hires resize: 96x0, Hires upscaler: Lanczos",
        ),
        ({"enable_hr": True, "denoising_strength": 0.5, "hr_sampler_name": "Heun"}, "Hires sampler: Heun"),
        (
            {"enable_hr": True, "denoising_strength": 0.5, "hr_sampler_name": "Euler Karras"},
            "Hires schedule type: Karras",
        ),
        ({"subseed": 3, "subseed_strength": 0.5}, "Variation seed: 3, Variation seed strength: 0.5"),
        ({"seed_resize_from_w": 64, "seed_resize_from_h": 96}, "Seed resize from: 64x96"),
        ({"tiling": True}, "Tiling: True"),
        ({"s_min_uncond": 1.0}, "NGMS: 1.0"),
        ({"eta": 0.5, "sampler_name": "Euler a"}, "Eta: 0.5"),
        ({"prompt": "(a:1.2) b", "override_settings": {"emphasis": "None"}}, "Emphasis: None"),
        ({"override_settings": {"token_merging_ratio": 0.4}}, "Token merging ratio: 0.4"),
        ({"override_settings": {"skip_early_cond": 0.5}}, "Skip Early CFG: 0.5"),
        ({"override_settings": {"always_discard_next_to_last_sigma": True}}, "Discard penultimate sigma: True"),
        ({"sampler_name": "DPM++ 2M SDE", "scheduler": "exponential"}, "Schedule type: Exponential"),
        ({"prompt": "a <lora:nope:1>", "disable_extra_networks": True}, "a <lora:nope:1>"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_every_wish_is_told_in_the_infotext(
    client: httpx.Client, plain: list[str], sent: dict[str, Any], words: str
) -> None:
    answer = draw(client, **sent)
    assert words in answer["info"]["infotexts"][0]
    assert answer["images"] != plain


@pytest.mark.parametrize(
    "sent", [{"s_churn": 5.0}, {"restore_faces": True}, {"override_settings": {"n_rows": 2}}], ids=str
)
def test_wishes_that_the_infotext_does_not_tell(client: httpx.Client, sent: dict[str, Any]) -> None:
    assert image_of(draw(client, **sent)["images"][0]).size == (64, 64)


def test_job_goes_on_when_the_client_leaves(server: Server) -> None:
    seed = 424242
    with server.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post("/sdapi/v1/txt2img", json={**SMALL, "seed": seed, "steps": 8, "save_images": True}, timeout=0.15)
    end = time.monotonic() + 30
    while not list((server.data / "outputs" / "txt2img-images").glob(f"*/*-{seed}.png")):
        assert time.monotonic() < end, "the picture was not drawn"
        time.sleep(0.1)


def test_many_at_once(server: Server) -> None:
    """Sixteen clients at a time, each gets its own picture."""
    with server.client() as client:
        alone = {seed: draw(client, seed=seed)["images"][0] for seed in range(3)}
        found: dict[int, str] = {}

        def one(number: int) -> None:
            found[number] = draw(client, seed=number % 3, steps=2)["images"][0]

        threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 16
    for number, text in found.items():
        ours, theirs = image_of(text).tobytes(), image_of(alone[number % 3]).tobytes()
        assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) <= 1
