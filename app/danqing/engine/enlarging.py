"""Pixels made larger by an upscaler of the catalogue, as a plan asks for it (spec 14)."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from danqing.engine.calls import Call, Enlarge, Work
from danqing.upscale import catalog

if TYPE_CHECKING:
    from danqing.engine.studio import Studio
    from danqing.options import DrawOptions

Pixels = np.ndarray[Any, Any]

RUNS = 3
"""How often a network is run at most until both sides reach the target."""


def enlarged(
    studio: Studio, options: DrawOptions, name: str, pixels: Pixels, width: int, height: int
) -> Generator[Call, Any, Pixels]:
    """`pixels` (h, w, 3) uint8 at `width` x `height`, by the upscaler `name`; smaller ones by Lanczos.

    Raises:
        DanqingError: `unknown_upscaler`.
    """
    row = catalog.find(studio.data, name)
    grows = max(width / pixels.shape[1], height / pixels.shape[0]) > 1
    if row.path is not None and grows:
        pixels = yield from by_network(row.path, options, pixels, width, height)
    filter_ = Image.Resampling.NEAREST if row.name == "Nearest" else Image.Resampling.LANCZOS

    def resized() -> Pixels:
        image = Image.fromarray(pixels)
        if image.size != (width, height):
            image = image.resize((width, height), filter_)
        return np.asarray(image)

    result: Pixels = yield Work(resized)
    return result


def by_network(
    path: Any, options: DrawOptions, pixels: Pixels, width: int, height: int
) -> Generator[Call, Any, Pixels]:
    """The network run until both sides reach the target, three times at most, or until it no longer enlarges."""
    for _ in range(RUNS):
        if pixels.shape[1] >= width and pixels.shape[0] >= height:
            break
        larger: Pixels = yield Enlarge(path, pixels, options.ESRGAN_tile, options.ESRGAN_tile_overlap)
        if larger.shape == pixels.shape:
            break
        pixels = larger
    return pixels
