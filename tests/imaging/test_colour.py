"""Colour correction."""

from __future__ import annotations

import numpy as np
from PIL import Image

from danqing.imaging import colour

from .support import gradient


def test_the_histogram_becomes_the_references() -> None:
    rng = np.random.default_rng(1)
    image, reference = rng.integers(0, 128, (40, 50, 3), np.uint8), rng.integers(100, 256, (30, 20, 3), np.uint8)
    matched = colour.match_histograms(image, reference)
    assert matched.dtype == np.uint8
    assert matched.min() >= 100
    order = np.argsort(image[..., 0].ravel(), kind="stable")
    assert (np.diff(matched[..., 0].ravel()[order].astype(int)) >= 0).all(), "lighter pixels stay lighter"
    assert (colour.match_histograms(reference, reference) == reference).all()


def test_values_without_whole_steps_are_matched_too() -> None:
    rng = np.random.default_rng(2)
    matched = colour.match_histograms(rng.random((50, 50, 3)), rng.random((50, 50, 3)) * 0.1 + 0.7)
    assert matched.min() >= 0.7
    assert matched.max() <= 0.8


def test_colours_come_from_the_target_and_light_stays() -> None:
    light = gradient(64, 64).convert("L").convert("RGB")
    red = Image.new("RGB", (64, 64), (180, 90, 90))
    result = np.asarray(colour.corrected(light, colour.target_of(red))).astype(int)
    assert (result[..., 0] > result[..., 2] + 20).mean() > 0.9
    luma = result @ colour.WEIGHTS
    assert np.abs(luma - np.asarray(light)[..., 0]).max() < 3


def test_luminosity_that_no_colour_has_is_brought_into_range() -> None:
    colours = np.full((1, 1, 3), (255, 0, 0), np.uint8)
    for level in (0, 255):
        blend = colour.with_luminosity(colours, np.full((1, 1, 3), level, np.uint8))
        assert np.abs(blend.astype(int) - level).max() <= 1
