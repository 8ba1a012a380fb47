"""sd-backend-client, which finds out by itself whether a server is a WebUI or a ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from sd_backend_client import AuthError, DiffusionParams, connect_to_backend

from tests.conftest import Server


@pytest.fixture
def backend(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("NO_PROXY", "*")
    backend = connect_to_backend(server.base_url)
    yield backend
    backend.disconnect()


def wanted(**more: Any) -> DiffusionParams:
    return DiffusionParams(prompt="a red circle", width=64, height=64, steps=3, seed=7, **more)


def test_it_is_taken_for_a_webui(backend: Any) -> None:
    assert type(backend).__name__ == "A1111Webservice"


def test_txt2img(backend: Any) -> None:
    result = backend.submit_txt2img(wanted(batch_size=2)).wait(timeout=60, poll_interval=0.05)
    assert [image.size for image in result.images] == [(64, 64)] * 2
    assert result.seeds == [7, 8]


def test_img2img_and_inpaint(backend: Any) -> None:
    source, mask = Image.new("RGB", (64, 64), "navy"), Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 64))
    drawn = backend.submit_img2img(wanted(init_images=[source], denoising_strength=0.5)).wait(timeout=60)
    assert drawn.images[0].size == (64, 64)
    painted = backend.submit_inpaint(wanted(init_images=[source], mask=mask, mask_blur=0)).wait(timeout=60)
    assert painted.images[0].convert("RGB").getpixel((60, 32)) == (0, 0, 128)


def test_upscale(backend: Any) -> None:
    result = backend.submit_upscale(Image.new("RGB", (64, 64), "navy"), 96, 96).wait(timeout=60)
    assert result.images[0].size == (96, 96)


def test_soft_inpainting_is_offered(backend: Any) -> None:
    assert backend.get_capabilities().soft_inpainting
    assert len(backend.get_soft_inpainting_parameters()) == 6


def test_lists(backend: Any) -> None:
    assert [option.name for option in backend.list_checkpoints()]
    assert len(backend.list_samplers()) >= 19
    assert len(backend.list_schedulers()) >= 11
    assert backend.list_upscalers()
    for ask in (backend.list_vaes, backend.list_loras, backend.list_hypernetworks):
        assert list(ask()) == [] or ask()


def test_login(login_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(AuthError):
        connect_to_backend(login_server.base_url)
