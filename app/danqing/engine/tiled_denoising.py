"""Large latents denoised in overlapping tiles, all in one batch, and blended.

MultiDiffusion, Bar-Tal et al. 2023 (https://arxiv.org/abs/2302.08113): memory grows with the tile, not with the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from danqing.engine.calls import Row
from danqing.engine.device import placed
from danqing.errors import DanqingError
from danqing.imaging.tiles import Tiling, tiling

LATENT_PIXELS = 8
"""Pixels a side of one element of the latent."""


def plan_of(width: int, height: int, tile: int, overlap: int) -> Tiling | None:
    """Tiles over a latent of `width` x `height`; None where one tile would do.

    Args:
        tile, overlap: in pixels of the picture.
    """
    side = max(1, tile // LATENT_PIXELS)
    if tile <= 0 or (width <= side and height <= side):
        return None
    size = min(side, width), min(side, height)
    return tiling((width, height), size, min(max(1, overlap // LATENT_PIXELS), min(size) - 1))


def cut(rows: Sequence[Row], plan: Tiling) -> list[Row]:
    """The rows of every tile, tile after tile.

    Raises:
        DanqingError: `not_available`, with control units, whose pictures are of the whole.
    """
    if any(row.control for row in rows):
        raise DanqingError("not_available", feature="control units with diffusion tiles")
    return [
        replace(row, x=row.x[:, top:bottom, left:right].contiguous())
        for left, top, right, bottom in plan.boxes
        for row in rows
    ]


def joined(answers: Sequence[torch.Tensor], count: int, plan: Tiling) -> list[torch.Tensor]:
    """What the network said of each of `count` rows, (4, h, w), from what it said of their tiles."""
    width, height = plan.size
    device = answers[0].device
    weight = placed(_bell(*plan.tile), device)
    total = torch.zeros(height, width, device=device)
    sums = [torch.zeros(answers[0].shape[0], height, width, device=device) for _ in range(count)]
    for place, (left, top, right, bottom) in enumerate(plan.boxes):
        total[top:bottom, left:right] += weight
        for row in range(count):
            sums[row][:, top:bottom, left:right] += answers[place * count + row] * weight
    return [one / total for one in sums]


def _bell(width: int, height: int) -> torch.Tensor:
    """A tile's weight, (height, width): largest in its middle, small at its edges, never 0."""
    across, down = (torch.sin((torch.arange(n) + 0.5) / n * torch.pi) + 0.01 for n in (width, height))
    return down[:, None] * across[None, :]
