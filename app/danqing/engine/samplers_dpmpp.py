"""DPM-Solver++, Lu et al. 2022 (https://arxiv.org/abs/2211.01095), predicting the clean latent, with and without noise."""

from __future__ import annotations

import torch

from danqing.engine.samplers_base import Brownian, Course, Walk, ancestral, pairs, slope


def dpmpp_2m(x: torch.Tensor, course: Course) -> Walk:
    """Second order from the last step's estimate."""
    previous: torch.Tensor | None = None
    last_h: torch.Tensor | None = None
    for sigma, after in pairs(course.levels):
        denoised = yield x, sigma
        h = sigma.log() - after.log()
        estimate = denoised
        if previous is not None and last_h is not None and after > 0:
            r = last_h / h
            estimate = (1 + 1 / (2 * r)) * denoised - (1 / (2 * r)) * previous
        x = (after / sigma) * x - (-h).expm1() * estimate
        previous, last_h = denoised, h
    return x


def dpmpp_2s_ancestral(x: torch.Tensor, course: Course) -> Walk:
    """Second order by a call in the middle of the step, then fresh noise."""
    for sigma, after in pairs(course.levels):
        denoised = yield x, sigma
        down, up = ancestral(sigma, after, course.ancestral_eta)
        if down == 0:
            x = x + slope(x, sigma, denoised) * (down - sigma)
        else:
            h = sigma.log() - down.log()
            middle = (sigma.log() - h / 2).exp()
            probe = (middle / sigma) * x - (-h / 2).expm1() * denoised
            denoised = yield probe, middle
            x = (down / sigma) * x - (-h).expm1() * denoised
        if after > 0:
            x = x + course.noise() * course.churn.noise * up
    return x


def dpmpp_sde(x: torch.Tensor, course: Course) -> Walk:
    """Second order by a call in the middle of the step, with noise in both halves."""
    noise, scale, eta = _brownian(course), course.churn.noise, course.ancestral_eta
    for sigma, after in pairs(course.levels):
        denoised = yield x, sigma
        if after == 0:
            x = x + slope(x, sigma, denoised) * (after - sigma)
            continue
        start, middle, end = _thirds(sigma, after)
        down, up = ancestral(start, middle, eta)
        probe = (down / start) * x - (down.log() - start.log()).expm1() * denoised
        probe = probe + noise(start, middle) * scale * up
        denoised = yield probe, middle
        down, up = ancestral(start, end, eta)
        x = (down / start) * x - (down.log() - start.log()).expm1() * denoised
        x = x + noise(start, end) * scale * up
    return x


def _thirds(sigma: torch.Tensor, after: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Start, middle and end of a step in log sigma.

    The ends come back from their logarithms, as k-diffusion has them: a Brownian path tells apart what rounding moves.
    """
    high, low = sigma.log(), after.log()
    return high.exp(), (high - (high - low) / 2).exp(), low.exp()


def dpmpp_2m_sde(x: torch.Tensor, course: Course) -> Walk:
    """Second order from the last step's estimate by the midpoint rule, with noise."""
    return (yield from _2m_sde(x, course, heun=False))


def dpmpp_2m_sde_heun(x: torch.Tensor, course: Course) -> Walk:
    """Second order from the last step's estimate by Heun's rule, with noise."""
    return (yield from _2m_sde(x, course, heun=True))


def _2m_sde(x: torch.Tensor, course: Course, *, heun: bool) -> Walk:
    eta = course.ancestral_eta
    previous: torch.Tensor | None = None
    last_h: torch.Tensor | None = None
    for sigma, after in pairs(course.levels):
        denoised = yield x, sigma
        if after == 0:
            return denoised
        h = sigma.log() - after.log()
        reach = h + eta * h
        share = -(-reach).expm1()
        x = after / sigma * (-eta * h).exp() * x + share * denoised
        if previous is not None and last_h is not None:
            weight = 1 - share / reach if heun else 0.5 * share
            x = x + weight * (h / last_h) * (denoised - previous)
        if eta:
            x = x + _fresh(course, sigma, after, h)
        previous, last_h = denoised, h
    return x


def dpmpp_3m_sde(x: torch.Tensor, course: Course) -> Walk:
    """Third order from the last two steps' estimates, with noise."""
    eta = course.ancestral_eta
    past: list[torch.Tensor] = []
    steps: list[torch.Tensor] = []
    for sigma, after in pairs(course.levels):
        denoised = yield x, sigma
        if after == 0:
            return denoised
        h = sigma.log() - after.log()
        reach = h * (eta + 1)
        x = (-reach).exp() * x - (-reach).expm1() * denoised + _bend(denoised, past, steps, h, reach)
        if eta:
            x = x + _fresh(course, sigma, after, h)
        past, steps = [denoised, *past[:1]], [h, *steps[:1]]
    return x


def _bend(
    denoised: torch.Tensor, past: list[torch.Tensor], steps: list[torch.Tensor], h: torch.Tensor, reach: torch.Tensor
) -> torch.Tensor:
    """What the estimates before (the latest first) add to a first-order step."""
    if not past:
        return torch.zeros_like(denoised)
    phi_2 = (-reach).expm1() / reach + 1
    r0 = steps[0] / h
    near = (denoised - past[0]) / r0
    if len(past) == 1:
        return phi_2 * near
    r1 = steps[1] / h
    far = (past[0] - past[1]) / r1
    second = (near - far) / (r0 + r1)
    phi_3 = phi_2 / reach - 0.5
    return phi_2 * (near + second * r0) - phi_3 * second


def _fresh(course: Course, sigma: torch.Tensor, after: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    size = after * (-(-2 * h * course.ancestral_eta).expm1()).sqrt()
    return _brownian(course)(sigma, after) * size * course.churn.noise


def _brownian(course: Course) -> Brownian:
    if course.brownian is not None:
        return course.brownian
    return lambda _sigma, _after: course.noise()
