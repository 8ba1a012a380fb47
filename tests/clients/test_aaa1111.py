"""aaa1111, a client with types of its own for every answer."""

from __future__ import annotations

import pytest
from aaa1111 import AAA1111
from aaa1111.types import IMG2IMG, TXT2IMG
from PIL import Image

from tests.conftest import Server


@pytest.fixture
def api(server: Server) -> AAA1111:
    return AAA1111(port=server.port, client_kwargs={"trust_env": False})


def test_txt2img(api: AAA1111) -> None:
    result = api.txt2img(TXT2IMG(prompt="a red circle", width=64, height=64, steps=3, seed=7))
    assert result.images[0].size == (64, 64)


def test_img2img(api: AAA1111) -> None:
    picture = Image.new("RGB", (64, 64), "navy")
    result = api.img2img(IMG2IMG(init_images=[picture], prompt="a red circle", width=64, height=64, steps=3, seed=7))
    assert result.images[0].size == (64, 64)


def test_every_answer_fits_its_type(api: AAA1111) -> None:
    assert api.samplers()[0].name == "DPM++ 2M"
    assert api.upscalers()[0].name == "None"
    assert len(api.latent_upscale_modes()) == 6
    assert api.sd_models()[0].title
    assert api.memory().ram
    assert api.scripts().txt2img
    assert api.script_info()
    assert api.progress().progress == 0
    for ask in ("cmd_flags", "sd_vae", "hypernetworks", "face_restorers", "realesrgan_models", "prompt_styles"):
        assert getattr(api, ask)() is not None
    assert api.embeddings() is not None
    assert api.loras() == []
    assert api.get_options()["samples_format"] == "png"


def test_actions(api: AAA1111) -> None:
    for act in ("interrupt", "skip", "refresh_checkpoints", "refresh_loras", "unload_checkpoint", "reload_checkpoint"):
        assert getattr(api, act)() is None
