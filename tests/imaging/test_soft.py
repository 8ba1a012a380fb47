"""Soft inpainting's arithmetic. `tests/engine/test_input_pictures.py` holds it against the recorded case."""

from __future__ import annotations

import numpy as np
import pytest

from danqing.imaging import soft
from danqing.request import SoftInpainting


def latents() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    mask = np.tile(np.linspace(0, 1, 12, dtype=np.float32), (10, 1))
    return rng.normal(size=(4, 10, 12)).astype(np.float32), rng.normal(size=(4, 10, 12)).astype(np.float32), mask


def test_ends_of_the_mask_are_one_picture_or_the_other() -> None:
    drawn, kept, mask = latents()
    mixed = soft.blended(drawn, kept, mask, 1.0, SoftInpainting())
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed[:, :, 0], kept[:, :, 0], atol=1e-4)
    np.testing.assert_allclose(mixed[:, :, -1], drawn[:, :, -1], atol=1e-4)


def test_grey_parts_follow_the_input_while_noise_is_high() -> None:
    _, _, mask = latents()
    early, late = (soft.weight_of(mask, sigma, SoftInpainting()) for sigma in (14.0, 0.1))
    assert (early[:, 1:-1] < late[:, 1:-1]).all()
    assert (soft.weight_of(mask, 5.0, SoftInpainting(scale=0.0)) == 1).all()


def test_mixtures_are_as_vivid_as_their_parts() -> None:
    drawn, kept, mask = latents()
    mixed = soft.blended(drawn, kept, mask, 1.0, SoftInpainting(detail=4))
    lengths = [np.linalg.norm(latent, axis=0) for latent in (drawn, kept, mixed)]
    assert (lengths[2] >= np.minimum(lengths[0], lengths[1]) - 1e-3).all()
    assert (lengths[2] <= np.maximum(lengths[0], lengths[1]) + 1e-3).all()


def reference_window_mean(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The same by a loop over pixels, in the plainest way."""
    kernel, result = soft.kernel(), np.zeros_like(values)
    height, width = values.shape
    for y in range(height):
        for x in range(width):
            near = [
                (values[v, u], kernel[v - y + 2, u - x + 2])
                for v in range(max(0, y - 2), min(height, y + 3))
                for u in range(max(0, x - 2), min(width, x + 3))
            ]
            near.sort()
            total = sum(weight for _, weight in near)
            begin, end = total * low, total * high
            if end - begin < 1:
                middle = (begin + end) / 2
                begin, end = middle - 0.5, middle + 0.5
                if end > total:
                    begin, end = total - 1, total
                if begin < 0:
                    begin, end = 0, 1
            done = top = bottom = 0.0
            for value, weight in near:
                share = max(0.0, min(done + weight, end) - max(done, begin))
                top, bottom, done = top + value * share, bottom + share, done + weight
            result[y, x] = top / bottom
    return result


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.0), (0.25, 0.75), (0.0, 0.1)])
def test_window_means_are_those_of_the_plain_loop(low: float, high: float) -> None:
    values = np.random.default_rng(4).random((7, 9))
    np.testing.assert_allclose(soft.window_mean(values, low, high), reference_window_mean(values, low, high), atol=1e-9)


def test_what_did_not_change_shows_the_original() -> None:
    drawn, kept, mask = latents()
    changed = kept.copy()
    changed[:, :, 8:] = drawn[:, :, 8:] + 3
    seen = np.asarray(soft.composite_mask(changed, kept, mask, 96, 80, SoftInpainting()))
    assert seen.shape == (80, 96)
    assert seen[:, :24].max() == 0
    assert seen[:, 80:].min() > 240


@pytest.mark.parametrize(
    "extreme", [{"difference_threshold": 0.0}, {"mask_influence": 1.0}, {"power": 8.0}, {"detail": 32.0}]
)
def test_extreme_settings_give_numbers(extreme: dict[str, float]) -> None:
    drawn, kept, mask = latents()
    settings = SoftInpainting(**extreme)
    assert np.isfinite(soft.blended(drawn, kept, mask, 14.6, settings)).all()
    assert soft.composite_mask(drawn, kept, mask, 96, 80, settings).size == (96, 80)
