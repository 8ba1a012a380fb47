"""Colour correction: the result takes the colours of the input picture and keeps its own luminosity."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image

Pixels = np.ndarray[Any, Any]

WEIGHTS = np.array([0.299, 0.587, 0.114])
"""Luma of red, green and blue, ITU-R BT.601."""


def match_histograms(image: Pixels, reference: Pixels) -> Pixels:
    """`image` (h, w, c) with the value distribution of `reference` in every channel, in the dtype of `image`.

    By cumulative distributions (Gonzalez and Woods, Digital Image Processing), as in scikit-image's function of this name.
    """
    matched = np.empty_like(image)
    for channel in range(image.shape[-1]):
        matched[..., channel] = _matched(image[..., channel], reference[..., channel])
    return matched


def _matched(source: Pixels, template: Pixels) -> Pixels:
    _, lookup, counts = np.unique(source.reshape(-1), return_inverse=True, return_counts=True)
    values, template_counts = np.unique(template.reshape(-1), return_counts=True)
    own, wanted = np.cumsum(counts) / source.size, np.cumsum(template_counts) / template.size
    return np.asarray(np.interp(own, wanted, values)[lookup].reshape(source.shape))


def target_of(image: Image.Image) -> Pixels:
    """What `corrected` matches: the picture in 8-bit LAB, (h, w, 3)."""
    return np.asarray(cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2LAB))


def corrected(image: Image.Image, target: Pixels) -> Image.Image:
    """`image` (RGB) with the colour distribution of `target`, its own luminosity laid over."""
    own = cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2LAB)
    matched = cv2.cvtColor(match_histograms(own, target).astype(np.uint8), cv2.COLOR_LAB2RGB)
    return Image.fromarray(with_luminosity(matched, np.asarray(image.convert("RGB"))))


def with_luminosity(colours: Pixels, light: Pixels) -> Pixels:
    """The luminosity blend of W3C Compositing 1, section 10: hue and saturation of `colours`, luminosity of `light`.

    Both (h, w, 3) uint8, and so is the answer (truncated).
    """
    result, source = colours / 255, light / 255
    result = result + (_luma(source) - _luma(result))
    luma = _luma(result)
    low = result.min(axis=2, keepdims=True)
    high = result.max(axis=2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        result = np.where(low < 0, luma + (result - luma) * luma / (luma - low), result)
        result = np.where(high > 1, luma + (result - luma) * (1 - luma) / (high - luma), result)
    return np.asarray(np.clip(result, 0, 1) * 255).astype(np.uint8)


def _luma(colours: Pixels) -> Pixels:
    return np.asarray(colours @ WEIGHTS)[:, :, None]
