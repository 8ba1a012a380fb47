"""Pixels made larger by an upscaler of the catalogue, as a plan asks for it (spec 14)."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from danqing.engine.calls import Call, Work
from danqing.engine.scaling import scaled
from danqing.upscale import catalog

if TYPE_CHECKING:
    from danqing.engine.studio import Studio
    from danqing.options import DrawOptions

Pixels = np.ndarray[Any, Any]


def enlarged(
    studio: Studio, options: DrawOptions, name: str, pixels: Pixels, width: int, height: int
) -> Generator[Call, Any, Pixels]:
    """`pixels` (h, w, 3) uint8 at `width` x `height`: by the upscaler `name` where they grow, by Lanczos for the rest.

    Raises:
        DanqingError: `unknown_upscaler`, `upscaler_missing`, and those of the network.
    """
    row = catalog.find(studio.data, name)
    scale = max(width / pixels.shape[1], height / pixels.shape[0])
    if row.kind != "none" and scale > 1:
        pixels = yield from scaled(studio.data, options, row.name, pixels, scale)

    def fitted() -> Pixels:
        image = Image.fromarray(pixels)
        return np.asarray(
            image if image.size == (width, height) else image.resize((width, height), Image.Resampling.LANCZOS)
        )

    result: Pixels = yield Work(fitted)
    return result
