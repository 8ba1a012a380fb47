from __future__ import annotations

import numpy as np
import pytest
import torch

from danqing.engine.noise import PhiloxGenerator, generator

from . import tiny

RECORDED = np.load(tiny.REFERENCE / "rng.npz")


@pytest.mark.parametrize("source", ["CPU", "NV"])
@pytest.mark.parametrize("seed", [0, 1, 42, 4294967301])
def test_draws_are_the_recorded_ones(source: str, seed: int) -> None:
    first, second = RECORDED[f"{source}/{seed}/first"], RECORDED[f"{source}/{seed}/second"]
    for picture in range(len(first)):
        draw = generator(source, seed + picture)
        np.testing.assert_allclose(draw.randn((4, 8, 8)).numpy(), first[picture], atol=1e-6)
        np.testing.assert_allclose(draw.randn((4, 8, 8)).numpy(), second[picture], atol=1e-6)


def test_philox_check_value() -> None:
    begins = torch.tensor([-0.92466259, -0.42534415, -2.6438457, 0.14518388])
    torch.testing.assert_close(PhiloxGenerator(0).randn((12,))[:4], begins)


def test_philox_is_normal() -> None:
    x = PhiloxGenerator(7).randn((100_000,))
    assert abs(float(x.mean())) < 0.02
    assert abs(float(x.std()) - 1) < 0.02
    assert torch.isfinite(x).all()
