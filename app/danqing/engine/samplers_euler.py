"""Samplers of Karras et al. 2022 and their kin: Euler, Heun, linear multistep, Restart."""

from __future__ import annotations

import math

import torch

from danqing.engine.samplers_base import Course, Walk, ancestral, churned, pairs, slope
from danqing.engine.schedules import karras


def euler(x: torch.Tensor, course: Course) -> Walk:
    """Algorithm 2 of Karras et al. 2022 (https://arxiv.org/abs/2206.00364), first order."""
    for sigma, after in pairs(course.levels):
        x, risen = churned(x, sigma, course)
        denoised = yield x, risen
        x = x + slope(x, risen, denoised) * (after - risen)
    return x


def euler_ancestral(x: torch.Tensor, course: Course) -> Walk:
    """Euler down to less than the next sigma, then fresh noise up to it."""
    for sigma, after in pairs(course.levels):
        denoised = yield x, sigma
        down, up = ancestral(sigma, after, course.ancestral_eta)
        x = x + slope(x, sigma, denoised) * (down - sigma)
        if after > 0:
            x = x + course.noise() * up
    return x


def heun(x: torch.Tensor, course: Course) -> Walk:
    """Algorithm 2 of Karras et al. 2022: second order, two calls a step but for one that ends at 0."""
    for sigma, after in pairs(course.levels):
        x, risen = churned(x, sigma, course)
        x = yield from _heun_step(x, risen, after)
    return x


def _heun_step(x: torch.Tensor, sigma: torch.Tensor, after: torch.Tensor) -> Walk:
    denoised = yield x, sigma
    rise = slope(x, sigma, denoised)
    if after > 0:
        probe = x + rise * (after - sigma)
        denoised = yield probe, after
        rise = (rise + slope(probe, after, denoised)) / 2
    return x + rise * (after - sigma)


def lms(x: torch.Tensor, course: Course) -> Walk:
    """Linear multistep of order 4 (Adams-Bashforth over sigma)."""
    sigmas: list[float] = course.levels.tolist()
    slopes: list[torch.Tensor] = []
    for i, (sigma, _) in enumerate(pairs(course.levels)):
        denoised = yield x, sigma
        slopes = [*slopes[-3:], slope(x, sigma, denoised)]
        known = sigmas[i - len(slopes) + 1 : i + 1][::-1]
        for j, rise in enumerate(reversed(slopes)):
            x = x + _lms_coefficient(known, j, sigmas[i], sigmas[i + 1]) * rise
    return x


def _lms_coefficient(known: list[float], j: int, start: float, end: float) -> float:
    """Integral from `start` to `end` of the j-th Lagrange polynomial over `known`; two Gauss points are exact up to cubics."""
    middle, reach = (start + end) / 2, (end - start) / 2
    others = [sigma for k, sigma in enumerate(known) if k != j]
    points = (middle - reach / math.sqrt(3), middle + reach / math.sqrt(3))
    return reach * sum(math.prod((at - other) / (known[j] - other) for other in others) for at in points)


RESTART_FROM, RESTART_TO = 0.1, 2.0


def restart(x: torch.Tensor, course: Course) -> Walk:
    """Restart sampling, Xu et al. 2023 (https://arxiv.org/abs/2306.14878): Heun, with climbs from sigma 0.1 back up to 2.

    From 20 steps on it climbs once, from 36 on twice; below 20 it is plain Heun.
    """
    last: torch.Tensor | None = None
    for sigma, after in _with_restarts(course.levels):
        if last is not None and last < sigma:
            x = x + course.noise() * course.churn.noise * (sigma**2 - last**2).sqrt()
        x = yield from _heun_step(x, sigma, after)
        last = after
    return x


def _with_restarts(levels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    steps = len(levels) - 1
    if steps < 20:
        return pairs(levels)
    climb, times = (9, 1) if steps < 36 else (steps // 4, 2)
    base = karras(steps - climb * times, float(levels[-2]), float(levels[0]))
    low, high = (int((base - level).abs().argmin()) for level in (RESTART_FROM, RESTART_TO))
    found = pairs(base)
    if high >= low or low == 0:
        return found
    again = pairs(karras(climb + 1, float(base[low]), float(base[high]))[:-1])
    return [*found[:low], *(again * times), *found[low:]]
