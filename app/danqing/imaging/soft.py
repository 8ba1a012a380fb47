"""Soft inpainting: grey mask values blend gradually, in the latent while sampling and in pixels afterwards.

While sampling, `blended` mixes each estimate of the clean latent with the input's, and keeps the mixture as vivid as its parts
(a plain mean of two latents is greyer than both). Afterwards `composite_mask` lets the result through where the latent was
really changed. The method is CodeHatchling's, for the WebUI (2023); a recorded case proves the arithmetic.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from danqing.imaging.masks import Box
from danqing.imaging.resize import CROP, FILL, resize_image
from danqing.request import SoftInpainting

Array = np.ndarray[Any, Any]

KERNEL_RADIUS = 2
KERNEL_DEVIATION = 1.5
WINDOWS = ((0.9, 1.0), (0.25, 0.75))
"""Shares of a neighbourhood's sorted values that the two passes take the mean of: near the maximum, then round the median."""
SMOOTHING = 4
"""Radius in pixels of the blur that hides the latent's grid."""


def weight_of(repaint: Array, sigma: float, soft: SoftInpainting) -> Array:
    """How much of the drawn latent is let through at this noise level: (h, w) in 0..1, from the latent mask `repaint`.

    Early, at high noise, grey parts follow the input; late they are free.
    """
    return np.asarray(repaint.astype(np.float64) ** (sigma**soft.power * soft.scale))


def blended(drawn: Array, kept: Array, repaint: Array, sigma: float, soft: SoftInpainting) -> Array:
    """The mixture of the drawn and the kept latent, both (4, h, w); float32.

    The length of each latent vector is the power mean, of exponent `soft.detail`, of its two parts' lengths.
    """
    weight = weight_of(repaint, sigma, soft)
    mixture = kept * (1 - weight) + drawn * weight
    length = _length(kept) ** soft.detail * (1 - weight) + _length(drawn) ** soft.detail * weight
    return np.asarray(mixture * (length ** (1 / soft.detail) / (_length(mixture) + 1e-5)), np.float32)


def _length(latent: Array) -> Array:
    return np.asarray(np.sqrt((latent.astype(np.float64) ** 2).sum(axis=0)))


def composite_mask(
    drawn: Array, kept: Array, repaint: Array, width: int, height: int, soft: SoftInpainting
) -> Image.Image:
    """How much of the result is seen, greyscale, `width` x `height`, from how far the final latent is from the input's.

    drawn, kept: (4, h, w). repaint: (h, w), the latent mask.
    """
    distance = _length(drawn.astype(np.float64) - kept)
    for low, high in WINDOWS:
        distance = window_mean(distance, low, high)
    half = np.maximum(soft.difference_threshold * _mask_scale(repaint, soft), 1e-12)
    unchanged = 1 / (1 + (distance / half) ** soft.difference_contrast)
    opacity = 1 - smootherstep(unchanged)
    mask = Image.fromarray((255 * opacity).astype(np.uint8))
    return resize_image(FILL, mask, width, height).filter(ImageFilter.GaussianBlur(SMOOTHING))


def _mask_scale(repaint: Array, soft: SoftInpainting) -> Array:
    """What the threshold is multiplied with: 1 where the mask has no influence, less where it says "paint"."""
    keep = 1 - np.clip(repaint.astype(np.float64), 0, 1) ** (soft.scale / 2)
    share = 0.5 * (1 - soft.mask_influence) + keep * soft.mask_influence
    return np.asarray(share / (1.00001 - share))


def smootherstep(x: Array) -> Array:
    """Perlin's 6x^5 - 15x^4 + 10x^3."""
    return np.asarray(x * x * x * (x * (x * 6 - 15) + 10))


def kernel() -> Array:
    """Weights of a neighbourhood, (5, 5): a Gaussian moved down so that it ends in 0 just outside; 1 in the middle."""
    squares = np.arange(-KERNEL_RADIUS, KERNEL_RADIUS + 1) ** 2
    bell = np.exp(-(squares[:, None] + squares[None, :]) / KERNEL_DEVIATION**2)
    floor = math.exp(-((KERNEL_RADIUS + 1) ** 2) / KERNEL_DEVIATION**2)
    return np.asarray(np.maximum((bell - floor) / (1 - floor), 0))


def window_mean(values: Array, low: float, high: float, least: float = 1.0) -> Array:
    """At each place of (h, w), the mean of the part of the sorted, weighted neighbourhood between the shares `low` and `high`.

    The part is at least `least` wide, in the kernel's weight. Neighbours outside do not count.
    """
    r = KERNEL_RADIUS
    size = 2 * r + 1
    window = (size, size)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(values, r), window)
    inside = np.lib.stride_tricks.sliding_window_view(np.pad(np.ones_like(values), r), window)
    around = around.reshape(*values.shape, size * size)
    weights = (inside * kernel()).reshape(*values.shape, size * size)
    order = np.argsort(around, axis=-1, kind="stable")
    around, weights = np.take_along_axis(around, order, -1), np.take_along_axis(weights, order, -1)
    ends = np.cumsum(weights, axis=-1)
    begin, end = _window(ends[..., -1:], low, high, least)
    share = np.clip(np.minimum(ends, end) - np.maximum(ends - weights, begin), 0, None)
    return np.asarray((around * share).sum(-1) / np.maximum(share.sum(-1), 1e-12))


def _window(total: Array, low: float, high: float, least: float) -> tuple[Array, Array]:
    begin, end = total * low, total * high
    narrow = end - begin < least
    middle = (begin + end) / 2
    begin, end = np.where(narrow, middle - least / 2, begin), np.where(narrow, middle + least / 2, end)
    over = np.where(narrow, np.maximum(end - total, 0), 0)
    begin, end = begin - over, end - over
    return np.maximum(begin, 0), np.where(begin < 0, end - begin, end)


def uncropped(mask: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """The mask of a crop at its place in a black picture of `size`."""
    left, top, right, bottom = box
    whole = Image.new("L", size)
    whole.paste(resize_image(CROP, mask, right - left, bottom - top), (left, top))
    return whole
