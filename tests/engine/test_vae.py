"""The VAE: strips are as exact as one piece, NaN is met, VAEs of one group are kept apart."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from danqing.engine import vae
from danqing.engine.calls import Decode, EncodeImage
from danqing.engine.models import Model, load
from danqing.engine.strips import Strips
from danqing.errors import DanqingError
from danqing.library.index import MINI, Library

from . import tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    data = tmp_path_factory.mktemp("vae")
    tiny.write(data)
    return load(Library(data).resolve("tiny-sd15"), CPU, torch.float32)


def fresh(model: Model, dtype: torch.dtype = torch.float32) -> Model:
    """The same with a VAE of its own."""
    return load(model.checkpoint, CPU, dtype)


def smooth(height: int, width: int) -> torch.Tensor:
    """A picture without edges, (h, w, 3) in -1..1."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([x * 2 - 1, y * 2 - 1, torch.sin(3 * (x + y))], -1)


@torch.inference_mode()
@pytest.mark.parametrize("pixels", [64, 1000, 4096, 10**6])
def test_strips_are_as_exact_as_one_piece(model: Model, pixels: int) -> None:
    latents = torch.randn(1, 4, 24, 17, generator=torch.Generator().manual_seed(1))
    strips = Strips(model.vae, pixels)
    torch.testing.assert_close(
        strips.decode(latents), model.vae.decode(latents, return_dict=False)[0], rtol=0, atol=2e-5
    )
    images = smooth(192, 136).permute(2, 0, 1)[None]
    torch.testing.assert_close(
        strips.encode(images), model.vae.encode(images).latent_dist.parameters, rtol=1e-5, atol=5e-5
    )


@torch.inference_mode()
def test_pixels_beyond_whole_eighths_are_seen(model: Model) -> None:
    """A picture of 100x44 has a latent of 12x5, as the WebUI's; in strips too."""
    image = smooth(44, 100)
    whole = vae.encode([EncodeImage(model, image)], CPU)[0]
    assert whole.shape == (4, 5, 12)
    assert (whole - vae.encode([EncodeImage(model, image[:40, :96])], CPU)[0]).abs().max() > 1e-3
    torch.testing.assert_close(vae.encode([EncodeImage(model, image, tile=32)], CPU)[0], whole, rtol=1e-5, atol=5e-5)


@torch.inference_mode()
def test_edges_meet_in_strips_as_with_circular_padding(model: Model) -> None:
    own = fresh(model).vae
    for conv in own.modules():
        if isinstance(conv, nn.Conv2d) and conv.padding != (0, 0):
            conv.padding_mode = "circular"
            sides = [conv.padding[1]] * 2 + [conv.padding[0]] * 2
            conv._reversed_padding_repeated_twice = sides  # type: ignore[assignment]
    latents = torch.randn(1, 4, 16, 12)
    strips = Strips(model.vae, 700, wrap=True)
    torch.testing.assert_close(strips.decode(latents), own.decode(latents, return_dict=False)[0], rtol=0, atol=2e-5)
    images = smooth(128, 96).permute(2, 0, 1)[None]
    torch.testing.assert_close(strips.encode(images), own.encode(images).latent_dist.parameters, rtol=1e-5, atol=5e-5)


@pytest.mark.skipif(not MINI.is_file(), reason="no trained VAE is here")
def test_no_seam_on_a_smooth_picture() -> None:
    mini = load(Library(Path("nowhere")).default(), CPU, torch.float32)
    call = EncodeImage(mini, smooth(256, 320))
    with torch.inference_mode():
        whole = vae.encode([call], CPU)[0]
        tiled = vae.encode([dataclasses.replace(call, tile=64)], CPU)[0]
        torch.testing.assert_close(whole, tiled, rtol=0, atol=1e-4)
        one, other = (vae.decode([Decode(mini, whole, tile=tile)], CPU)[0] for tile in (0, 64))
    assert isinstance(one, np.ndarray)
    assert isinstance(other, np.ndarray)
    assert np.abs(one.astype(int) - other).max() <= 1


@torch.inference_mode()
def test_queries_in_parts(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = torch.randn(1, 4, 16, 16)
    whole = Strips(model.vae, 4096).decode(latents)
    monkeypatch.setattr("danqing.engine.strips.QUERIES", 50)
    torch.testing.assert_close(Strips(model.vae, 4096).decode(latents), whole, rtol=0, atol=2e-5)


@torch.inference_mode()
def test_little_memory_means_strips(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Decode(model, torch.randn(4, 16, 16))
    whole = vae.decode([call, call], CPU)
    used: list[int] = []
    decode = Strips.decode

    def watched(self: Strips, latents: torch.Tensor) -> torch.Tensor:
        used.append(self.pixels)
        return decode(self, latents)

    monkeypatch.setattr(Strips, "decode", watched)
    vae.decode([call], CPU)
    assert used == []
    monkeypatch.setattr(vae, "free_memory", lambda _: 10**6)
    strips = vae.decode([call, call], CPU)
    assert used == [512 * 512] * 2
    for one, other in zip(whole, strips, strict=True):
        assert isinstance(one, np.ndarray)
        assert isinstance(other, np.ndarray)
        assert np.abs(one.astype(int) - other).max() <= 1


@torch.inference_mode()
def test_out_of_memory_is_tried_again_in_strips(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    own = fresh(model)
    tried: list[int] = []

    def fails(*_: Any, **__: Any) -> Any:
        tried.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(own.vae, "decode", fails)
    answer = vae.decode([Decode(own, torch.randn(4, 8, 8))], CPU)[0]
    assert tried == [1]
    assert isinstance(answer, np.ndarray)
    assert answer.shape == (64, 64, 3)


@torch.inference_mode()
def test_calls_with_different_vaes_keep_their_own(model: Model, tmp_path: Path) -> None:
    other = tiny.write(tmp_path, "b", seed=4321)
    second = load(Library(tmp_path).resolve("b"), CPU, torch.float32)
    assert other.is_file()
    latent = torch.randn(4, 8, 8)
    mixed = dataclasses.replace(model, vae=second.vae)
    alone = [vae.decode([Decode(one, latent)], CPU)[0] for one in (model, mixed)]
    together = vae.decode([Decode(model, latent), Decode(mixed, latent), Decode(model, latent)], CPU)
    for answer, expected in zip(together, (alone[0], alone[1], alone[0]), strict=True):
        assert isinstance(answer, np.ndarray)
        assert np.abs(answer.astype(int) - expected).max() <= 1
    assert np.abs(together[0].astype(int) - together[1]).max() > 10  # type: ignore[union-attr]


@torch.inference_mode()
def test_numbers_too_large_for_half_precision_are_done_again(model: Model) -> None:
    """A VAE whose features pass float16's 65504 gives NaN there; the row comes right in float32, and the VAE stays there."""
    own = fresh(model, torch.float16)
    with torch.no_grad():
        own.vae.post_quant_conv.weight.mul_(50)
    call = Decode(own, torch.randn(4, 8, 8) * 2000)
    answer = vae.decode([call], CPU)[0]
    assert isinstance(answer, np.ndarray)
    assert own.vae.dtype == torch.float32


@torch.inference_mode()
def test_nan_costs_its_own_row_only(model: Model) -> None:
    good = torch.randn(4, 8, 8)
    bad = good.clone()
    bad[0, 0, 0] = torch.nan
    answers = vae.decode([Decode(model, good), Decode(model, bad)], CPU)
    assert isinstance(answers[0], np.ndarray)
    assert isinstance(answers[1], DanqingError)
    assert answers[1].code == "nan_picture"
    with pytest.raises(DanqingError):
        vae.encode([EncodeImage(model, torch.full((64, 64, 3), torch.nan))], CPU)
