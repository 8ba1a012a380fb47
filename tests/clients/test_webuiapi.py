"""webuiapi, the Python client that most programs build on, against a running server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import webuiapi
from PIL import Image, ImageChops, ImageDraw

from danqing.mini.control_judge import edge_overlap, edges
from tests.conftest import Server

SMALL: dict[str, Any] = {"prompt": "a red circle", "width": 64, "height": 64, "steps": 3, "seed": 7}


@pytest.fixture
def api(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[webuiapi.WebUIApi]:
    monkeypatch.setenv("NO_PROXY", "*")
    api = webuiapi.WebUIApi(host="127.0.0.1", port=server.port, sampler="Euler a", steps=3)
    yield api
    api.session.close()


def source() -> Image.Image:
    return Image.new("RGB", (64, 64), (200, 30, 30))


def test_txt2img(api: webuiapi.WebUIApi) -> None:
    result = api.txt2img(**SMALL, negative_prompt="blue", cfg_scale=5, batch_size=2)
    assert [image.size for image in result.images] == [(64, 64)] * 2
    assert result.info["all_seeds"] == [7, 8]
    assert result.info["sampler_name"] == "Euler a"
    assert result.parameters["cfg_scale"] == 5.0
    assert result.image.info["parameters"] == result.info["infotexts"][0]


def test_hires_and_overrides(api: webuiapi.WebUIApi) -> None:
    result = api.txt2img(
        **SMALL,
        enable_hr=True,
        hr_scale=1.5,
        hr_upscaler=webuiapi.HiResUpscaler.Latent,
        denoising_strength=0.5,
        override_settings={"CLIP_stop_at_last_layers": 2},
    )
    assert result.image.size == (96, 96)
    assert "Clip skip: 2" in result.info["infotexts"][0]


def test_controlnet(api: webuiapi.WebUIApi) -> None:
    """The client's own units: edges of a disc on the left, drawn by the miniature model and its ControlNet."""
    disc = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(disc).ellipse((14, 40, 62, 88), fill=(200, 30, 30))
    (canny,) = [name for name in api.controlnet_model_list() if name.startswith("danqing-mini-canny")]
    assert "canny" in api.controlnet_module_list()
    unit = webuiapi.ControlNetUnit(
        image=disc, module="canny", model=canny, processor_res=128, threshold_a=100, threshold_b=200
    )
    asked = {
        **SMALL,
        "prompt": "a red circle on a white background",
        "width": 128,
        "height": 128,
        "steps": 20,
        "cfg_scale": 5,
    }
    drawn, outline = api.txt2img(**asked, controlnet_units=[unit]).images
    assert outline.size == drawn.size == (128, 128)
    edge = np.asarray(outline.convert("L")) > 127
    assert edge[:, :70].sum() > 100
    assert edge[:, 70:].sum() == 0
    assert edge_overlap(edge, edges(np.asarray(drawn.convert("RGB")))) >= 0.5
    unit.weight = 0.0
    # The client keeps its units of one call for the next where it is handed no dictionary of its own.
    without = api.txt2img(**asked, alwayson_scripts={}).image
    weightless = api.txt2img(**asked, alwayson_scripts={}, controlnet_units=[unit]).images[0]
    assert ImageChops.difference(weightless, without).getextrema() == ((0, 0),) * 3
    assert ImageChops.difference(drawn, without).getextrema() != ((0, 0),) * 3


def test_img2img(api: webuiapi.WebUIApi) -> None:
    result = api.img2img(images=[source()], **SMALL, denoising_strength=0.5)
    assert result.image.size == (64, 64)
    assert result.info["denoising_strength"] == 0.5


def test_inpaint(api: webuiapi.WebUIApi) -> None:
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    result = api.img2img(
        images=[source()], mask_image=mask, inpainting_fill=1, inpaint_full_res=False, mask_blur=0, **SMALL
    )
    kept = result.image.convert("RGB").crop((40, 0, 64, 64)).getextrema()
    assert all(
        abs(low - wanted) <= 1 >= abs(high - wanted) for (low, high), wanted in zip(kept, (200, 30, 30), strict=True)
    )


def test_extras(api: webuiapi.WebUIApi) -> None:
    one = api.extra_single_image(image=source(), upscaler_1=webuiapi.Upscaler.Lanczos, upscaling_resize=1.5)
    assert one.image.size == (96, 96)
    assert one.info == "<p>Postprocess upscale by: 1.5, Postprocess upscaler: Lanczos</p>"
    several = api.extra_batch_images(
        images=[source(), source()], upscaler_1=webuiapi.Upscaler.Nearest, upscaling_resize=2
    )
    assert [image.size for image in several.images] == [(128, 128)] * 2


def test_scripts(api: webuiapi.WebUIApi) -> None:
    result = api.txt2img(
        **{**SMALL, "prompt": "a|b"},
        script_name="Prompt matrix",
        script_args=[False, False, "positive", "comma", 0],
    )
    assert len(result.images) == 3
    assert "prompt matrix" in api.get_scripts()["txt2img"]


def test_png_info(api: webuiapi.WebUIApi) -> None:
    drawn = api.txt2img(**SMALL)
    assert api.png_info(drawn.image).info == drawn.info["infotexts"][0]


def test_progress_and_stopping(api: webuiapi.WebUIApi) -> None:
    assert api.get_progress()["progress"] == 0.0
    assert api.interrupt() == {}
    api.skip()


def test_options(api: webuiapi.WebUIApi) -> None:
    before = api.get_options()["jpeg_quality"]
    api.set_options({"jpeg_quality": 71})
    assert api.get_options()["jpeg_quality"] == 71
    api.set_options({"jpeg_quality": before})


def test_interrogation_without_its_networks(api: webuiapi.WebUIApi) -> None:
    with pytest.raises(RuntimeError) as error:
        api.interrogate(source())
    status, text = error.value.args
    assert status == 422
    assert "models/interrogate" in text


def test_lists(api: webuiapi.WebUIApi) -> None:
    assert api.get_samplers()[0]["name"] == "DPM++ 2M"
    assert api.get_schedulers()[0]["name"] == "automatic"
    assert api.get_upscalers()[0]["name"] == "None"
    assert len(api.get_latent_upscale_modes()) == 6
    assert api.get_cmd_flags()["api"] is True
    assert api.get_memory()["ram"]["total"] > 0
    for ask in (
        "sd_vae",
        "loras",
        "hypernetworks",
        "prompt_styles",
        "embeddings",
        "face_restorers",
        "realesrgan_models",
    ):
        assert getattr(api, f"get_{ask}")() is not None
    api.refresh_checkpoints()


def test_models(api: webuiapi.WebUIApi) -> None:
    (name,) = api.util_get_model_names()
    api.util_set_model(name)
    assert api.util_get_current_model() == name
    assert "Euler a" in api.util_get_sampler_names()
    api.util_wait_for_ready(check_interval=0.1)


def test_login(login_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    stranger = webuiapi.WebUIApi(port=login_server.port)
    with pytest.raises(RuntimeError, match="Not authenticated"):
        stranger.txt2img(**SMALL)
    known = webuiapi.WebUIApi(port=login_server.port, username="admin", password=login_server.password)
    assert known.txt2img(**SMALL).image.size == (64, 64)
