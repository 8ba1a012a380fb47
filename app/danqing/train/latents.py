"""Prepared pictures as latents: each is encoded once, plain and where it is wanted mirrored."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from danqing.errors import DanqingError
from danqing.train.networks import Networks

MIRROR = Image.Transpose.FLIP_LEFT_RIGHT


@dataclass(frozen=True, slots=True)
class Item:
    """A picture to learn from. `caption`: its own, before templates."""

    picture: Path
    caption: str
    mask: Path | None = None


@dataclass(frozen=True, slots=True)
class _Encoded:
    """mean, spread: (4, h, w) float32 on the CPU. mask: (1, h, w) of 0..1."""

    mean: torch.Tensor
    spread: torch.Tensor
    mask: torch.Tensor | None


class Latents:
    """The latents of some pictures, on the CPU."""

    def __init__(self, networks: Networks, items: Sequence[Item], flip: bool) -> None:
        self.items = items
        self._scale = networks.scale
        ways = (False, True) if flip else (False,)
        self._encoded = [[_encoded(networks, item, mirrored) for mirrored in ways] for item in items]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Of every picture, in pixels."""
        return [(8 * rows[0].mean.shape[2], 8 * rows[0].mean.shape[1]) for rows in self._encoded]

    def draw(
        self, indices: Sequence[int], rng: random.Random, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Latents (B, 4, h, w) drawn from the VAE's distributions and scaled, and masks (B, 1, h, w) where there are any."""
        rows = [rng.choice(self._encoded[index]) for index in indices]
        mean, spread = torch.stack([row.mean for row in rows]), torch.stack([row.spread for row in rows])
        latents = (mean + spread * torch.randn(mean.shape, generator=generator)) * self._scale
        if all(row.mask is None for row in rows):
            return latents, None
        whole = torch.ones(1, *mean.shape[2:])
        return latents, torch.stack([whole if row.mask is None else row.mask for row in rows])


@torch.no_grad()
def _encoded(networks: Networks, item: Item, mirrored: bool) -> _Encoded:
    try:
        with Image.open(item.picture) as image:
            picture = image.convert("RGB")
        mask = Image.open(item.mask).convert("L") if item.mask else None
    except OSError as error:
        raise DanqingError("train_picture_broken", file=item.picture.name, reason=str(error)[:200]) from None
    if mirrored:
        picture = ImageOps.mirror(picture)
        mask = ImageOps.mirror(mask) if mask else None
    vae = networks.vae
    pixels = torch.from_numpy(np.asarray(picture, np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    latents = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
    mean, spread = latents.mean[0].float().cpu(), latents.std[0].float().cpu()
    if not mean.isfinite().all():
        raise DanqingError("nan_picture", name=networks.model.checkpoint.name)
    return _Encoded(mean, spread, None if mask is None else _shrunk(mask, (mean.shape[2], mean.shape[1])))


def _shrunk(mask: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    small = mask.resize(size, Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, np.float32) / 255)[None]
