"""Samplers along DDPM's integer timesteps: DDIM and its kin. The last listed timestep is never asked for, as in the WebUI."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from danqing.engine.samplers_base import Course, Walk


@dataclass(frozen=True, slots=True)
class _Leap:
    """From one timestep to the one before it; 0-d float32."""

    t: torch.Tensor
    before: torch.Tensor
    alpha: torch.Tensor
    """Square root of abar at t, and `rest` that of 1 - abar."""
    rest: torch.Tensor
    alpha_before: torch.Tensor
    direction: torch.Tensor
    """How much of the predicted noise stays."""
    sigma: torch.Tensor

    def clean(self, x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        return (x - self.rest * eps) / self.alpha


def _leaps(course: Course, eta: float) -> list[_Leap]:
    steps = course.levels.long()
    abar = course.model.alphas_cumprod
    # 1 - abar in abar's own precision: a downcast abar is rounded there once more.
    rests = (1 - abar).double().sqrt()
    abar = abar.double()
    found = []
    for i in range(len(steps) - 1, 0, -1):
        a, before = abar[steps[i]], abar[steps[i - 1]]
        sigma = eta * ((1 - before) / (1 - a) * (1 - a / before)).sqrt()
        direction = (1 - before - sigma**2).clamp(min=0).sqrt()
        numbers = (a.sqrt(), rests[steps[i]], before.sqrt(), direction, sigma)
        found.append(_Leap(steps[i].float(), steps[i - 1].float(), *(number.float() for number in numbers)))
    return found


def ddim(x: torch.Tensor, course: Course) -> Walk:
    """DDIM, Song et al. 2020 (https://arxiv.org/abs/2010.02502)."""
    for leap in _leaps(course, course.eta or 0.0):
        eps = yield x, leap.t
        x = leap.alpha_before * leap.clean(x, eps) + leap.direction * eps + _fresh(leap, course)
    return x


def ddim_cfgpp(x: torch.Tensor, course: Course) -> Walk:
    """DDIM with CFG++, Chung et al. 2024 (https://arxiv.org/abs/2406.08070): the way back goes by the unguided noise.

    It is sent (2, *x.shape): the guided noise and the unguided.
    """
    for leap in _leaps(course, course.eta or 0.0):
        guided, plain = yield x, leap.t
        x = leap.alpha_before * leap.clean(x, guided) + leap.direction * plain + _fresh(leap, course)
    return x


def _fresh(leap: _Leap, course: Course) -> torch.Tensor | float:
    return leap.sigma * course.noise() if leap.sigma > 0 else 0.0


PLMS_WEIGHTS = ((3, -1), (23, -16, 5), (55, -59, 37, -9))
"""Adams-Bashforth of orders 2 to 4, over 2, 12 and 24, the latest first."""


def plms(x: torch.Tensor, course: Course) -> Walk:
    """Pseudo linear multistep, Liu et al. 2022 (https://arxiv.org/abs/2202.09778): order 4, begun by one improved Euler step."""
    past: list[torch.Tensor] = []
    for leap in _leaps(course, 0.0):
        eps = yield x, leap.t
        if not past:
            probe = leap.alpha_before * leap.clean(x, eps) + leap.direction * eps
            estimate = (eps + (yield probe, leap.before)) / 2
        else:
            weights = PLMS_WEIGHTS[len(past) - 1]
            terms = [weight * e for weight, e in zip(weights, [eps, *past], strict=True)]
            estimate = torch.stack(terms).sum(0) / sum(weights)
        past = [eps, *past[:2]]
        x = leap.alpha_before * leap.clean(x, estimate) + leap.direction * estimate
    return x
