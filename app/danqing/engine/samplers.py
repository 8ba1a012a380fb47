"""Samplers as step generators: each yields the model calls it needs and returns the final latent.

A `SIGMA` sampler yields (x, sigma) and is sent the denoised estimate; a `TIMESTEP` sampler yields (x, t) and is sent the
predicted noise. x has any shape; sigma and t are 0-d float32 tensors. Nothing here knows a model, a prompt or a batch, so
that a picture's path depends on its own request alone. k-diffusion's loops (MIT, https://github.com/crowsonkb/k-diffusion)
call the model themselves and so cannot be driven from outside: these are the same algorithms, turned inside out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch

from danqing.engine.schedules import ModelSigmas

Walk = Generator[tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]
Noise = Callable[[], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Course:
    """What a sampler is given besides x.

    `levels`: sigmas, falling, float32 (n + 1,) for SIGMA samplers; rising integer timesteps (n,) for TIMESTEP samplers.
    `noise` draws the picture's next noise, shaped like x. `eta` None is the sampler's own default.
    """

    levels: torch.Tensor
    noise: Noise
    model: ModelSigmas
    eta: float | None = None


def _slope(x: torch.Tensor, sigma: torch.Tensor, denoised: torch.Tensor) -> torch.Tensor:
    return (x - denoised) / sigma


def euler(x: torch.Tensor, course: Course) -> Walk:
    """Algorithm 2 of Karras et al. 2022 (https://arxiv.org/abs/2206.00364) without churn."""
    for sigma, after in _pairs(course.levels):
        denoised = yield x, sigma
        x = x + _slope(x, sigma, denoised) * (after - sigma)
    return x


def euler_ancestral(x: torch.Tensor, course: Course) -> Walk:
    """Euler down to less than the next sigma, then fresh noise up to it."""
    for sigma, after in _pairs(course.levels):
        denoised = yield x, sigma
        down, up = _ancestral(sigma, after, 1.0 if course.eta is None else course.eta)
        x = x + _slope(x, sigma, denoised) * (down - sigma)
        if after > 0:
            x = x + course.noise() * up
    return x


def heun(x: torch.Tensor, course: Course) -> Walk:
    """Algorithm 1 of Karras et al. 2022 without churn: second order, two calls a step but for the last."""
    for sigma, after in _pairs(course.levels):
        denoised = yield x, sigma
        slope = _slope(x, sigma, denoised)
        if after > 0:
            probe = x + slope * (after - sigma)
            denoised = yield probe, after
            slope = (slope + _slope(probe, after, denoised)) / 2
        x = x + slope * (after - sigma)
    return x


def lms(x: torch.Tensor, course: Course) -> Walk:
    """Linear multistep of order 4 (Adams-Bashforth over sigma)."""
    sigmas = course.levels.double().numpy()
    slopes: list[torch.Tensor] = []
    for i, (sigma, _) in enumerate(_pairs(course.levels)):
        denoised = yield x, sigma
        slopes = [*slopes[-3:], _slope(x, sigma, denoised)]
        order = len(slopes)
        for j, slope in enumerate(reversed(slopes)):
            x = x + _lms_coefficient(order, sigmas, i, j) * slope
    return x


def dpmpp_2m(x: torch.Tensor, course: Course) -> Walk:
    """DPM-Solver++(2M), Lu et al. 2022 (https://arxiv.org/abs/2211.01095)."""
    previous: torch.Tensor | None = None
    last_h: torch.Tensor | None = None
    for sigma, after in _pairs(course.levels):
        denoised = yield x, sigma
        h = sigma.log() - after.log()
        estimate = denoised
        if previous is not None and last_h is not None and after > 0:
            r = last_h / h
            estimate = (1 + 1 / (2 * r)) * denoised - (1 / (2 * r)) * previous
        x = (after / sigma) * x - (-h).expm1() * estimate
        previous, last_h = denoised, h
    return x


def ddim(x: torch.Tensor, course: Course) -> Walk:
    """DDIM, Song et al. 2020 (https://arxiv.org/abs/2010.02502).

    As in the WebUI the last listed timestep is never asked for, and noise is drawn at every step even where eta is 0.
    """
    eta = course.eta or 0.0
    steps = course.levels.long()
    alphas = course.model.alphas_cumprod.double()
    for i in range(len(steps) - 1, 0, -1):
        eps = yield x, steps[i].float()
        a, before = alphas[steps[i]], alphas[steps[i - 1]]
        sigma = eta * ((1 - before) / (1 - a) * (1 - a / before)).sqrt()
        clean = (x - (1 - a).sqrt().float() * eps) / a.sqrt().float()
        noise = course.noise()
        x = before.sqrt().float() * clean + (1 - before - sigma**2).sqrt().float() * eps + sigma.float() * noise
    return x


def _pairs(levels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(itertools.pairwise(levels))


def _ancestral(sigma: torch.Tensor, after: torch.Tensor, eta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """How far down Euler goes and how much noise comes back, so that the variance is `after`'s."""
    up = torch.minimum(after, eta * (after**2 * (sigma**2 - after**2) / sigma**2).sqrt())
    return (after**2 - up**2).sqrt(), up


def _lms_coefficient(order: int, sigmas: np.ndarray, i: int, j: int) -> float:
    """Integral from sigma_i to sigma_i+1 of the j-th Lagrange polynomial over the last `order` sigmas."""
    polynomial = np.polynomial.Polynomial([1.0])
    for k in range(order):
        if k != j:
            gap = sigmas[i - j] - sigmas[i - k]
            polynomial = polynomial * np.polynomial.Polynomial([-sigmas[i - k] / gap, 1 / gap])
    whole = polynomial.integ()
    return float(whole(sigmas[i + 1]) - whole(sigmas[i]))
