"""Step savers: what they leave out, and that nothing of it is silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from danqing.engine import feature_cache
from danqing.engine.control_rows import Step
from danqing.engine.scheduler import Kind
from danqing.options import DrawOptions
from danqing.request import GenerateRequest

from . import tiny
from .conftest import Bench

BASE: dict[str, Any] = {"prompt": "a cat", "steps": 8, "width": 64, "height": 64, "seed": 3, "sampler": "Euler"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    data: Path = tmp_path_factory.mktemp("savers")
    tiny.write(data)
    return Bench(data)


def draw(bench: Bench, **options: Any) -> tuple[np.ndarray, dict[str, Any], int]:
    """The picture, what its infotext says more, and the UNet rows that it took."""
    bench.forwards.clear()
    request = GenerateRequest(**BASE, options=DrawOptions(**options))
    drawn = bench.draw(mine=request)["mine"]
    assert drawn.error is None, drawn.error
    rows = sum(rows for kind, rows, _ in bench.forwards if kind is Kind.DENOISE)
    return drawn.images[0].astype(int), drawn.facts[0]["extra"], rows


def test_features_just_kept_give_what_the_whole_network_gives(bench: Bench) -> None:
    model = bench.workshop.load_default()
    generator = torch.Generator().manual_seed(0)
    x, context = torch.randn(3, 4, 8, 8, generator=generator), torch.randn(3, 77, model.unet.config.cross_attention_dim)
    step = Step(model, x, torch.tensor([900.0, 500.0, 20.0]), context, None)
    slots: list[feature_cache.Slot] = [[], [], []]
    with torch.inference_mode(), feature_cache.keeping(model.unet, slots):
        whole = model.unet(x, step.t, encoder_hidden_states=context, return_dict=False)[0]
    with torch.inference_mode():
        assert (feature_cache.reused(step, slots) - whole).abs().max() < 1e-5
    assert not model.unet.up_blocks[-1].resnets[-1]._forward_pre_hooks


def test_an_interval_saves_forwards_and_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, told, _ = draw(bench)
    assert "Feature cache interval" not in told
    whole = []
    forward = bench.workshop.load_default().unet.forward
    monkeypatch.setattr(
        bench.workshop.load_default().unet, "forward", lambda *a, **k: whole.append(1) or forward(*a, **k)
    )
    cached, told, _ = draw(bench, feature_cache_interval=3)
    assert len(whole) == 3  # steps 0, 3 and 6 of 8
    assert told["Feature cache interval"] == 3
    assert 0 < np.abs(cached - plain).mean() < 40


def test_guidance_that_ends_early_asks_for_fewer_rows_and_says_so(bench: Bench) -> None:
    plain, told, rows = draw(bench)
    assert (rows, "CFG end" in told) == (16, False)
    ended, told, rows = draw(bench, cfg_end=0.5)
    assert (rows, told["CFG end"]) == (12, 0.5)
    assert np.abs(ended - plain).max() > 0


def test_both_together_start_anew_when_the_rows_change(bench: Bench) -> None:
    _, told, rows = draw(bench, cfg_end=0.5, feature_cache_interval=2)
    assert rows == 12
    assert {"CFG end", "Feature cache interval"} <= told.keys()


def test_with_tiles_it_is_refused_by_name(bench: Bench) -> None:
    options = DrawOptions(feature_cache_interval=2, diffusion_tile=64)
    drawn = bench.draw(mine=GenerateRequest(**BASE, options=options))["mine"]
    assert drawn.error is not None
    assert drawn.error.code == "not_available"
