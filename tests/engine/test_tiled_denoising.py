"""Tiles of a latent: they cover it, fall together again, and a network without a view beyond its pixel sees no difference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from danqing.engine import tiled_denoising
from danqing.engine.calls import Row
from danqing.errors import DanqingError
from danqing.options import DrawOptions

from .conftest import Bench
from .test_engine import BASE


def rows(width: int, height: int, count: int = 2) -> list[Row]:
    torch.manual_seed(0)
    return [Row(torch.randn(4, height, width), 500.0, torch.zeros(77, 8)) for _ in range(count)]


@pytest.mark.parametrize("size", [(64, 64), (40, 96), (33, 17), (8, 100)])
def test_what_is_cut_comes_together_again(size: tuple[int, int]) -> None:
    given = rows(*size)
    plan = tiled_denoising.plan_of(*size, tile=128, overlap=48)
    assert plan is not None
    tiles = tiled_denoising.cut(given, plan)
    assert max(max(row.x.shape[1:]) for row in tiles) <= 16
    again = tiled_denoising.joined([row.x * 2 for row in tiles], len(given), plan)
    for row, one in zip(given, again, strict=True):
        assert torch.allclose(one, row.x * 2, atol=1e-5)


def test_one_tile_is_none() -> None:
    assert tiled_denoising.plan_of(16, 16, tile=128, overlap=64) is None
    assert tiled_denoising.plan_of(64, 64, tile=0, overlap=64) is None


def test_control_units_are_refused() -> None:
    plan = tiled_denoising.plan_of(32, 32, tile=128, overlap=32)
    assert plan is not None
    row = Row(torch.zeros(4, 32, 32), 1.0, torch.zeros(77, 8), control=(object(),))
    with pytest.raises(DanqingError, match="tiles"):
        tiled_denoising.cut([row], plan)


def test_a_large_picture_is_drawn_in_tiles(shared_bench: Bench) -> None:
    """No forward sees more than a tile, and the picture is whole."""
    shapes = []
    unet = shared_bench.workshop.runner.run

    def watched(kind: object, payloads: list[object]) -> list[object]:
        for payload in payloads:
            if isinstance(payload, tuple):
                shapes.extend(tuple(row.x.shape[1:]) for row in payload[1])
        return unet(kind, payloads)

    shared_bench.workshop.runner.run = watched  # type: ignore[method-assign, assignment]
    try:
        options = DrawOptions(diffusion_tile=64, diffusion_tile_overlap=32)
        request = BASE.model_copy(update={"width": 160, "height": 96, "options": options, "steps": 2})
        drawn = shared_bench.draw(a=request)["a"]
    finally:
        shared_bench.workshop.runner.run = unet  # type: ignore[method-assign]
    assert drawn.error is None
    assert drawn.images[0].shape == (96, 160, 3)
    assert set(shapes) == {(8, 8)}
    assert np.ptp(drawn.images[0]) > 0
