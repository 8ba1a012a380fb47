"""The VAE's training: random scenes, windows around edges, absolute, gradient and square error.

Flat pictures are decided by their edges, so most windows lie on an object's rim. Later the decoder
alone is trained on with noise in the latents: it learns to clean up what a UNet leaves unclear.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from danqing.mini import parallel
from danqing.mini.drawing import render
from danqing.mini.linear_start import start_linear
from danqing.mini.nets import new_vae
from danqing.mini.parallel import Clock, Flat, cosine, save_whole, say, scalar, shared
from danqing.mini.scenes import SIZE, mixed_stage, sample_scene

CROP = 48
MIX = (2, 2, 2, 3, 3)
"""Weights of the stages among the VAE's pictures: fine detail is in people and things."""


class Windows:
    """An endless stream of windows from a pool of pictures that is renewed as it is used."""

    def __init__(self, seed: int, pool: int = 256) -> None:
        self.rng, self.size = random.Random(seed), pool
        self.pool: list[tuple[Tensor, tuple[float, float, float]]] = []

    def _fresh(self) -> tuple[Tensor, tuple[float, float, float]]:
        scene = sample_scene(mixed_stage(MIX, self.rng), self.rng)
        thing = self.rng.choice(scene.things)
        picture = torch.from_numpy(np.array(render(scene, self.rng))).permute(2, 0, 1)
        return picture.float() / 127.5 - 1, (thing.x, thing.y, thing.radius)

    def _draw(self) -> tuple[Tensor, tuple[float, float, float]]:
        if len(self.pool) < self.size:
            self.pool.append(self._fresh())
            return self.pool[-1]
        index = self.rng.randrange(self.size)
        if self.rng.random() < 0.5:
            self.pool[index] = self._fresh()
        return self.pool[index]

    def batch(self, count: int, full: bool = False) -> Tensor:
        """(count, 3, s, s) in [-1, 1]: whole pictures, or windows of CROP pixels near a rim."""
        return torch.stack([self._draw()[0] if full else self._window() for _ in range(count)])

    def _window(self) -> Tensor:
        picture, (x, y, radius) = self._draw()
        near = self.rng.random() < 0.9
        left = x + self.rng.uniform(-1, 1) * radius if near else self.rng.uniform(24, 104)
        top = y + self.rng.uniform(-1, 1) * radius if near else self.rng.uniform(24, 104)
        a, b = (int(min(max(value - CROP / 2, 0), SIZE - CROP)) for value in (left, top))
        return picture[:, b : b + CROP, a : a + CROP]


def picture_loss(drawn: Tensor, truth: Tensor) -> Tensor:
    """Absolute error, half that of the gradients, half the square error."""
    error = drawn - truth
    down, right = error.diff(dim=-2).abs().mean(), error.diff(dim=-1).abs().mean()
    return error.abs().mean() + 0.5 * (down + right) + 0.5 * error.square().mean()


def decibels(error: float) -> float:
    """Mean square error of pictures in [-1, 1] as a peak signal-to-noise ratio."""
    return float(-10 * np.log10(max(error, 1e-12) / 4))


def train_vae(out: Path, minutes: float) -> None:
    """Train the whole VAE in `minutes`; writes `vae.pt`."""
    vae = start_linear(new_vae()).to(parallel.device())
    flat, clock = Flat(vae.parameters(), 1e-4), Clock(minutes)
    windows, seen = Windows(parallel.rank() + 1), []
    for done in shared(clock, flat):
        full = done > 0.8 and flat.steps % 3 == 0
        truth = windows.batch(1 if full else 8, full).to(parallel.device())
        hidden = vae.encode(truth).latent_dist
        drawn = vae.decode(hidden.sample()).sample
        loss = picture_loss(drawn, truth) + 3e-4 * hidden.kl().mean() / hidden.mean[0].numel()
        torch.autograd.backward(loss)
        flat.step(1.2e-3 * cosine(done, 0.08))
        seen.append((drawn - truth).detach().square().mean())
        if flat.steps % 100 == 0:
            say(f"vae {clock.spent():.1f} min, step {flat.steps}, {decibels(scalar(seen)):.1f} dB")
            seen.clear()
    flat.use_mean()
    if parallel.rank() == 0:
        save_whole(vae.state_dict(), out / "vae.pt")


def train_decoder(out: Path, minutes: float, noise: float = 0.2) -> None:
    """Train the decoder on with unclear latents; writes `decoder.pt`, the whole VAE's weights.

    `noise` is the deviation of what is added, in units of each latent channel's own deviation.
    """
    vae = load_vae(out, "decoder.pt" if (out / "decoder.pt").exists() else "vae.pt")
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    spread = latent_statistics(vae)[1].view(1, 4, 1, 1)
    flat, clock = Flat(vae.parameters(), 1e-4), Clock(minutes)
    windows, seen = Windows(parallel.rank() + 51), []
    for done in shared(clock, flat):
        full = flat.steps % 3 == 0
        truth = windows.batch(1 if full else 8, full).to(parallel.device())
        with torch.no_grad():
            hidden = vae.encode(truth).latent_dist.sample()
        strength = noise * spread * torch.rand(len(truth), 1, 1, 1, device=truth.device)
        drawn = vae.decode(hidden + strength * torch.randn_like(hidden)).sample
        torch.autograd.backward(picture_loss(drawn, truth))
        flat.step(1e-3 * cosine(done))
        seen.append((drawn - truth).detach().square().mean())
        if flat.steps % 100 == 0:
            say(f"decoder {clock.spent():.1f} min, step {flat.steps}, {decibels(scalar(seen)):.1f} dB")
            seen.clear()
    flat.use_mean()
    if parallel.rank() == 0:
        save_whole(vae.state_dict(), out / "decoder.pt")


def load_vae(out: Path, name: str = "vae.pt") -> AutoencoderKL:
    """The trained VAE, on the training device."""
    vae = new_vae()
    vae.load_state_dict(torch.load(out / name, map_location="cpu", weights_only=True))
    return vae.to(parallel.device())


@torch.no_grad()
def latent_statistics(vae: AutoencoderKL, count: int = 64) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each latent channel over `count` scenes: two vectors of 4."""
    latents = vae.encode(Windows(7).batch(count, full=True).to(parallel.device())).latent_dist.mean
    return latents.mean((0, 2, 3)), latents.std((0, 2, 3))
