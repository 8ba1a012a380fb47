"""Latent consistency models, Luo et al. 2023 (https://arxiv.org/abs/2310.04378).

They were distilled at 50 of the 1000 timesteps, and their estimate is mixed with the input by a boundary condition.
"""

from __future__ import annotations

import torch

from danqing.engine.samplers_base import Course, Walk, pairs
from danqing.engine.schedules import ModelSigmas

STEPS = 50
SIGMA_DATA = 0.5
TIMESTEP_SCALING = 10.0


class LcmSigmas(ModelSigmas):
    """Sigmas at timesteps 19, 39, ... 999; every sigma counts as the nearest of them."""

    def __init__(self, trained: ModelSigmas) -> None:
        self._skip = len(trained.alphas_cumprod) // STEPS
        super().__init__(trained.alphas_cumprod[self._skip - 1 :: self._skip])

    @property
    def timesteps(self) -> tuple[int, int]:
        return len(self.sigmas) * self._skip - 1, self._skip - 1

    def to_sigma(self, t: torch.Tensor) -> torch.Tensor:
        return super().to_sigma(((t - (self._skip - 1)) / self._skip).clamp(0, len(self.sigmas) - 1))

    def to_t(self, sigma: torch.Tensor) -> torch.Tensor:
        nearest = (sigma.log() - self.log_sigmas[:, None]).abs().argmin(dim=0)
        return (nearest * self._skip + self._skip - 1).float()


def bounded(x: torch.Tensor, clean: torch.Tensor, t: float) -> torch.Tensor:
    """The consistency function: the estimate, mixed with x the more the smaller t is."""
    scaled = t * TIMESTEP_SCALING
    share = scaled**2 + SIGMA_DATA**2
    mixed: torch.Tensor = clean * (scaled / share**0.5) + x * (SIGMA_DATA**2 / share)
    return mixed


def lcm(x: torch.Tensor, course: Course) -> Walk:
    """Every step takes the estimate and noises it anew."""
    for sigma, after in pairs(course.levels):
        x = yield x, sigma
        if after > 0:
            x = x + after * course.noise()
    return x
