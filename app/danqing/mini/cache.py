"""Scenes rendered and encoded once, in shards, so that the UNet's steps read latents only.

A shard holds standardised latents and the seeds of its scenes; captions are worded anew at every
step from the scene that a seed gives back.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from danqing.mini import parallel
from danqing.mini.drawing import render
from danqing.mini.parallel import save_whole
from danqing.mini.scenes import STAGES, Scene, sample_scene
from danqing.mini.train_vae import latent_statistics, load_vae

SHARD = 250


def scene_of(stage: str, seed: int) -> Scene:
    """The scene that a cached picture shows."""
    return sample_scene(stage, random.Random(seed))


def first_seed(stage: str, shard: int) -> int:
    """Seeds of different shards and stages never meet; those from 10**9 up are for judging."""
    return STAGES.index(stage) * 10_000_000 + shard * SHARD


@torch.no_grad()
def encode_scenes(vae: AutoencoderKL, statistics: tuple[Tensor, Tensor], stage: str, shard: int) -> Tensor:
    """Standardised latents of one shard: half (SHARD, 2, 4, 16, 16), mean and deviation."""
    start, parts = first_seed(stage, shard), []
    shift, spread = (value.view(1, 4, 1, 1) for value in statistics)
    for low in range(start, start + SHARD, 25):
        pictures = [
            torch.from_numpy(render(scene_of(stage, seed), random.Random(~seed)).copy())
            for seed in range(low, low + 25)
        ]
        batch = torch.stack(pictures).permute(0, 3, 1, 2).float().to(shift.device) / 127.5 - 1
        hidden = vae.encode(batch).latent_dist
        parts.append(torch.stack([(hidden.mean - shift) / spread, hidden.std / spread], 1).half().cpu())
    return torch.cat(parts)


class Cache:
    """The shards under one folder; all processes fill it together."""

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / "latents"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.latents: dict[str, Tensor] = {}

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Shift and spread of the latent channels, measured once and kept."""
        path = self.out / "statistics.pt"
        if not path.exists():
            save_whole(latent_statistics(load_vae(self.out)), path)
        shift, spread = torch.load(path, map_location=parallel.device(), weights_only=True)
        return shift, spread

    def fill(self, counts: dict[str, int]) -> None:
        """Render what is missing of `counts`, each process its share, then read all there is."""
        todo = [(stage, k) for stage, count in counts.items() for k in range(-(-count // SHARD))]
        missing = [item for item in todo if not self._path(*item).exists()]
        if parallel.rank() == 0:
            self.statistics()
        parallel.wait()
        mine = missing[parallel.rank() :: parallel.world()]
        if mine:
            vae, statistics = load_vae(self.out), self.statistics()
            for stage, shard in mine:
                save_whole(encode_scenes(vae, statistics, stage, shard), self._path(stage, shard))
        parallel.wait()
        for stage in counts:
            if paths := sorted(self.folder.glob(f"{stage}-*.pt")):
                self.latents[stage] = torch.cat([torch.load(path, weights_only=True) for path in paths])

    def draw(self, stage: str, rng: random.Random) -> tuple[Tensor, Scene]:
        """One random cached latent (2, 4, 16, 16) and its scene."""
        index = rng.randrange(len(self.latents[stage]))
        return self.latents[stage][index], scene_of(stage, first_seed(stage, 0) + index)

    def _path(self, stage: str, shard: int) -> Path:
        return self.folder / f"{stage}-{shard:03d}.pt"


def standardise(hidden: Any, statistics: tuple[Tensor, Tensor]) -> Tensor:
    """A posterior's mean in the UNet's units."""
    shift, spread = (value.view(1, 4, 1, 1) for value in statistics)
    mean: Tensor = hidden.mean
    return (mean - shift) / spread
