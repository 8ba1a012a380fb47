"""What every sampler is given and how it is driven.

A sampler is a generator: it yields the model calls it needs and returns the final latent. A `SIGMA` sampler yields (x, sigma)
and is sent the denoised estimate; a `TIMESTEP` sampler yields (x, t) and is sent the predicted noise. x has any shape; sigma
and t are 0-d float32 tensors. Nothing here knows a model, a prompt or a batch, so that a picture's path depends on its own
request alone. k-diffusion's loops (MIT, https://github.com/crowsonkb/k-diffusion, revision ab527a9) call the model themselves
and so cannot be driven from outside: these are the same algorithms, turned inside out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass

import torch

from danqing.engine.schedules import ModelSigmas
from danqing.options import DrawOptions

Walk = Generator[tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]
Noise = Callable[[], torch.Tensor]
DEFAULTS = DrawOptions()

Brownian = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Standard normal noise for the step between two sigmas, the same for the same two however often it is asked for."""


@dataclass(frozen=True, slots=True)
class Churn:
    """Fresh noise before a step, as Karras et al. 2022 add it; `noise` also scales the noise of other samplers."""

    churn: float = 0.0
    tmin: float = 0.0
    tmax: float = math.inf
    noise: float = 1.0


@dataclass(frozen=True, slots=True)
class Course:
    """What a sampler is given besides x.

    `levels`: sigmas, falling, float32 (n + 1,) for SIGMA samplers; rising integer timesteps (n,) for TIMESTEP samplers.
    `noise` draws the picture's next noise, shaped like x. `eta` None is the sampler's own default. `span`: largest and smallest
    sigma and the number of calls, for samplers that make their own schedule. `resumed`: x is a noised picture, not noise.
    """

    levels: torch.Tensor
    noise: Noise
    model: ModelSigmas
    eta: float | None = None
    churn: Churn = Churn()
    brownian: Brownian | None = None
    options: DrawOptions = DEFAULTS
    span: tuple[float, float, int] | None = None
    resumed: bool = False

    @property
    def ancestral_eta(self) -> float:
        return 1.0 if self.eta is None else self.eta


def pairs(levels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Each level with the next."""
    return list(itertools.pairwise(levels))


def slope(x: torch.Tensor, sigma: torch.Tensor, denoised: torch.Tensor) -> torch.Tensor:
    """dx/dsigma of the probability flow."""
    return (x - denoised) / sigma


def ancestral(sigma: torch.Tensor, after: torch.Tensor, eta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """How far down a step goes and how much noise comes back, so that the variance is `after`'s."""
    up = torch.minimum(after, eta * (after**2 * (sigma**2 - after**2) / sigma**2).sqrt())
    return (after**2 - up**2).sqrt(), up


def churned(x: torch.Tensor, sigma: torch.Tensor, course: Course) -> tuple[torch.Tensor, torch.Tensor]:
    """x with fresh noise, and the sigma it then has.

    With churn on, noise is drawn at every step, used or not, as in k-diffusion.
    """
    churn = course.churn
    if churn.churn <= 0:
        return x, sigma
    gamma = 0.0
    if churn.tmin <= sigma <= churn.tmax:
        gamma = min(churn.churn / (len(course.levels) - 1), math.sqrt(2) - 1)
    fresh = course.noise()
    if gamma <= 0:
        return x, sigma
    risen = sigma * (gamma + 1)
    return x + fresh * churn.noise * (risen**2 - sigma**2).sqrt(), risen
