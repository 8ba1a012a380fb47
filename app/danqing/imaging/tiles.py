"""A picture cut into overlapping tiles, and put together again with a linear blend across the overlap (SD upscale)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True, slots=True)
class Tiling:
    """Where the tiles of a picture lie. `lefts` and `tops` are in pixels, the last tile of each ends at the edge."""

    size: tuple[int, int]
    tile: tuple[int, int]
    overlap: int
    lefts: tuple[int, ...]
    tops: tuple[int, ...]

    @property
    def boxes(self) -> list[tuple[int, int, int, int]]:
        """(left, top, right, bottom) of each tile, row by row."""
        width, height = self.tile
        return [(x, y, x + width, y + height) for y in self.tops for x in self.lefts]


def tiling(size: tuple[int, int], tile: tuple[int, int], overlap: int) -> Tiling:
    """Tiles of `tile` pixels over a picture of `size`, at least `overlap` pixels over each other.

    A side smaller than the tile gets one tile that begins before it: what lies outside is black.
    """
    lefts, tops = (_starts(whole, part, overlap) for whole, part in zip(size, tile, strict=True))
    return Tiling(size, tile, overlap, lefts, tops)


def _starts(whole: int, part: int, overlap: int) -> tuple[int, ...]:
    count = max(1, math.ceil((whole - overlap) / max(1, part - overlap)))
    step = (whole - part) / (count - 1) if count > 1 else 0
    return tuple(min(int(step * index), whole - part) for index in range(count))


def split(image: Image.Image, plan: Tiling) -> list[Image.Image]:
    """The tiles of `image`, row by row."""
    return [image.crop(box) for box in plan.boxes]


def combine(tiles: Sequence[Image.Image], plan: Tiling) -> Image.Image:
    """The picture of the tiles, row by row: each fades in over `overlap` pixels along its left edge, each row along its top."""
    width, height = plan.tile
    count = len(plan.lefts)
    whole = Image.new("RGB", plan.size)
    for row, top in enumerate(plan.tops):
        strip = Image.new("RGB", (plan.size[0], height))
        for column, left in enumerate(plan.lefts):
            across = _ramp(plan.overlap, (width, height), across=True) if column else None
            strip.paste(tiles[row * count + column], (left, 0), across)
        down = _ramp(plan.overlap, (plan.size[0], height), across=False) if row else None
        whole.paste(strip, (0, top), down)
    return whole


def _ramp(overlap: int, size: tuple[int, int], *, across: bool) -> Image.Image:
    """A mask that rises from 0 to 255 over the first `overlap` columns (or rows) and stays there."""
    length = size[0] if across else size[1]
    values = np.full(length, 255, np.uint8)
    rise = min(overlap, length)
    values[:rise] = (np.arange(rise) * 255 / max(overlap, 1)).astype(np.uint8)
    line = values[None, :] if across else values[:, None]
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(line, (size[1], size[0]))))
