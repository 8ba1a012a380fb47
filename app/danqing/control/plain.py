"""Control maps that need no weights: edges by filters, tones, grids. No torch.

Pictures are (h, w, 3) uint8 RGB. `sized` brings one to the resolution that its shorter side is to have, as the ControlNet
extension does; the longer side follows, within `LONGEST` and `MOST_PIXELS`, which bound the memory that any picture can cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np

Pixels = np.ndarray[Any, Any]

LONGEST = 16384
"""Pixels of a map's longer side."""
MOST_PIXELS = 1 << 24
"""Pixels of a map. Working on it in float32 takes at most about 40 bytes a pixel: 700 MB."""
STRIP = 512
"""Rows worked on at a time where a picture keeps its size, which may be larger than `MOST_PIXELS`."""
GRID = 64
"""Pixels of a cell of the colour grid, and the multiple to which a picture is padded for a filter."""


def rgb(image: Pixels) -> Pixels:
    """Any picture as (h, w, 3) uint8: grey repeated, transparency laid on white, of 16 bits the upper eight.

    image: (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), uint8 or uint16.
    """
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    if image.shape[2] == 3:
        return image
    flat = np.empty((*image.shape[:2], 3), np.uint8)
    for rows in _strips(image.shape[0]):
        alpha = image[rows, :, 3:4].astype(np.float32) / 255
        colour = image[rows, :, :3] * alpha + 255 * (1 - alpha)
        flat[rows] = colour.clip(0, 255).astype(np.uint8)
    return flat


def map_size(height: int, width: int, resolution: int) -> tuple[int, int]:
    """Height and width of a map of a picture of that size: `resolution` on the shorter side, proportions kept."""
    factor = resolution / min(height, width)
    factor = min(factor, LONGEST / max(height, width), (MOST_PIXELS / (height * width)) ** 0.5)
    return max(1, round(height * factor)), max(1, round(width * factor))


def sized(image: Pixels, resolution: int) -> Pixels:
    """`image` at `map_size`: bicubic where it grows, by area where it shrinks."""
    height, width = map_size(image.shape[0], image.shape[1], resolution)
    how = cv2.INTER_CUBIC if min(height, width) > min(image.shape[:2]) else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, (width, height), interpolation=how))


def padded(image: Pixels) -> Pixels:
    """`image` with its last row and column repeated up to multiples of 64, so that a filter sees no black border."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % GRID), (0, -width % GRID), (0, 0)), mode="edge")


def canny(image: Pixels, low: float, high: float) -> Pixels:
    """Edges (Canny 1986), white on black. `low`, `high`: thresholds of the gradient, 1 to 255."""
    return _grey(cv2.Canny(image, low, high))


def threshold(image: Pixels, level: float, _: float) -> Pixels:
    """White where every channel is above `level`."""
    return _grey(np.where(image.min(axis=2) > level, 255, 0))


def blur(image: Pixels, sigma: float, _: float) -> Pixels:
    """Gaussian of `sigma` pixels."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma))


def xdog(image: Pixels, level: float, _: float) -> Pixels:
    """Scribble by a difference of Gaussians (after Winnemöller 2011), white on black; `level` 1 to 64, higher is fewer lines."""
    fine = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 0.5)
    coarse = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 5.0)
    dark = 255 - (255 - (coarse - fine).min(axis=2)).clip(0, 255).astype(np.uint8)
    return _grey(np.where(2 * dark.astype(np.float32) > level, 255, 0))


def lineart(image: Pixels, _: float, __: float) -> Pixels:
    """Lines darker than their surroundings, white on black."""
    whole = image.astype(np.float32)
    depth = (cv2.GaussianBlur(whole, (0, 0), 6.0) - whole).min(axis=2).clip(0, 255)
    strong = depth[depth > 8]
    scale = max(16.0, float(np.median(strong))) if strong.size else 16.0
    return _grey((depth / scale * 127).clip(0, 255))


def colour_grid(image: Pixels, _: float, __: float) -> Pixels:
    """A mosaic of 64 pixels a cell."""
    height, width = image.shape[:2]
    cells = cv2.resize(image, (max(1, width // GRID), max(1, height // GRID)), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST))


def none(image: Pixels, _: float, __: float) -> Pixels:
    """The picture itself."""
    return image


def invert(image: Pixels, _: float, __: float) -> Pixels:
    """The negative."""
    return np.asarray(255 - image)


def down_sample(image: Pixels, rate: float, _: float) -> Pixels:
    """The picture at 1/`rate` of its size; below 1.1 as it is."""
    if rate < 1.1:
        return image
    height, width = (max(1, int(side / rate)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def luminance(image: Pixels, gamma: float, _: float) -> Pixels:
    """L of CIELAB, 0 to 1, to the power `gamma`."""
    return _toned(image, cv2.COLOR_BGR2LAB, 0, gamma)


def intensity(image: Pixels, gamma: float, _: float) -> Pixels:
    """V of HSV, 0 to 1, to the power `gamma`."""
    return _toned(image, cv2.COLOR_RGB2HSV, 2, gamma)


def _toned(image: Pixels, space: int, channel: int, gamma: float) -> Pixels:
    out = np.empty_like(image)
    for rows in _strips(image.shape[0]):
        tone = cv2.cvtColor(np.ascontiguousarray(image[rows]), space)[:, :, channel].astype(np.float32) / 255
        out[rows] = ((tone**gamma) * 255).clip(0, 255).astype(np.uint8)[:, :, None]
    return out


def shuffle(image: Pixels, seed: int) -> Pixels:
    """The picture's colours flowed together: every pixel taken from where two smooth noises of 256 pixels say."""
    height, width = image.shape[:2]
    random = np.random.default_rng(seed)
    flow_x = _noise(height, width, random) * (width - 1)
    flow_y = _noise(height, width, random) * (height - 1)
    return np.asarray(cv2.remap(image, flow_x, flow_y, cv2.INTER_LINEAR))


def _noise(height: int, width: int, random: np.random.Generator, cell: int = 256) -> Pixels:
    coarse = random.uniform(size=(height // cell + 2, width // cell + 2)).astype(np.float32)
    fine = cv2.resize(coarse, (width + 2 * cell, height + 2 * cell), interpolation=cv2.INTER_CUBIC)
    fine = fine[cell : cell + height, cell : cell + width]
    fine = fine - fine.min()
    return np.asarray(fine / max(float(fine.max()), 1e-6), np.float32)


def masked(image: Pixels, mask: Pixels) -> Pixels:
    """The picture, black where `mask` (h, w) is above one half."""
    height, width = image.shape[:2]
    if mask.shape[:2] != (height, width):
        mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    out = image.copy()
    np.copyto(out, 0, where=(mask > 127)[:, :, None])
    return out


Filter = Callable[[Pixels, float, float], Pixels]

SIZED: dict[str, Filter] = {
    "canny": canny,
    "threshold": threshold,
    "blur_gaussian": blur,
    "scribble_xdog": xdog,
    "lineart_standard": lineart,
    "color": colour_grid,
}
"""Filters of a picture at the map's resolution, (picture, a, b)."""

UNSIZED: dict[str, Filter] = {
    "none": none,
    "reference_only": none,
    "reference_adain": none,
    "reference_adain+attn": none,
    "invert": invert,
    "tile_resample": down_sample,
    "tile_colorfix": none,
    "tile_colorfix+sharp": none,
    "recolor_luminance": luminance,
    "recolor_intensity": intensity,
}
"""Those that keep the picture's own size."""


def _grey(plane: Pixels) -> Pixels:
    """(h, w) as three equal channels of uint8."""
    return np.repeat(plane.astype(np.uint8)[:, :, None], 3, axis=2)


def _strips(height: int) -> Iterator[slice]:
    return (slice(top, min(top + STRIP, height)) for top in range(0, height, STRIP))
