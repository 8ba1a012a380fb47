"""A picture by a factor, through an upscaler: the contract that the WebUI's extras, hires fix and scripts share (spec 14)."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from danqing.engine import plugged
from danqing.engine.calls import Call, Enlarge, Work
from danqing.upscale import catalog

if TYPE_CHECKING:
    from pathlib import Path

    from danqing.options import DrawOptions

Pixels = np.ndarray[Any, Any]

RUNS = 3
"""How often a network is run at most."""


def scaled(data: Path, options: DrawOptions, name: str, pixels: Pixels, scale: float) -> Generator[Call, Any, Pixels]:
    """`pixels` (h, w, 3) uint8 by the factor `scale`, both sides rounded down to multiples of 8.

    A network runs until both sides reach that, three times at most, and Lanczos does the rest. With a factor of exactly 1 it
    runs once all the same, as in the WebUI; with a smaller one never. "None" scales by Lanczos.

    Raises:
        DanqingError: `unknown_upscaler`, `upscaler_missing`, and those of the network.
    """
    row = catalog.find(data, name)
    height, width = pixels.shape[:2]
    target = max(8, int(width * scale // 8 * 8)), max(8, int(height * scale // 8 * 8))
    if row.path is not None:
        for turn in range(RUNS):
            if reaches(pixels, target) and (turn > 0 or scale != 1):
                break
            larger: Pixels = yield Enlarge(row.path, pixels, options.ESRGAN_tile, options.ESRGAN_tile_overlap)
            if larger.shape == pixels.shape:
                break
            pixels = larger
    elif row.kind == "plugin" and not reaches(pixels, target):
        pixels = yield Work(partial(plugged.upscaled, row.name, pixels, scale))
    first = (
        (int(width * scale), int(height * scale)) if row.path is None and row.kind != "plugin" and scale > 1 else None
    )
    filter_ = Image.Resampling.NEAREST if row.kind == "nearest" else Image.Resampling.LANCZOS

    def fitted() -> Pixels:
        image = Image.fromarray(pixels)
        if first is not None:
            image = image.resize(first, filter_)
        return np.asarray(image if image.size == target else image.resize(target, Image.Resampling.LANCZOS))

    result: Pixels = yield Work(fitted)
    return result


def reaches(pixels: Pixels, target: tuple[int, int]) -> bool:
    """Whether the picture is at least as wide and as high as (width, height)."""
    return bool(pixels.shape[1] >= target[0] and pixels.shape[0] >= target[1])
