"""DPM-Solver, Lu et al. 2022 (https://arxiv.org/abs/2206.00927), predicting noise: DPM2, fast and adaptive."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field

import torch

from danqing.engine.samplers_base import Course, Walk, ancestral, churned, pairs, slope


def dpm2(x: torch.Tensor, course: Course) -> Walk:
    """The midpoint method in log sigma; two calls a step but for one that ends at 0."""
    for sigma, after in pairs(course.levels):
        x, risen = churned(x, sigma, course)
        x = yield from _midpoint(x, risen, after)
    return x


def dpm2_ancestral(x: torch.Tensor, course: Course) -> Walk:
    """DPM2 down to less than the next sigma, then fresh noise up to it."""
    for sigma, after in pairs(course.levels):
        down, up = ancestral(sigma, after, course.ancestral_eta)
        x = yield from _midpoint(x, sigma, down)
        if down > 0:
            x = x + course.noise() * course.churn.noise * up
    return x


def _midpoint(x: torch.Tensor, sigma: torch.Tensor, after: torch.Tensor) -> Walk:
    denoised = yield x, sigma
    rise = slope(x, sigma, denoised)
    if after == 0:
        return x + rise * (after - sigma)
    middle = sigma.log().lerp(after.log(), 0.5).exp()
    probe = x + rise * (middle - sigma)
    denoised = yield probe, middle
    return x + slope(probe, middle, denoised) * (after - sigma)


@dataclass(slots=True)
class _Step:
    """One step in t = -log sigma. The noise predictions of a step are shared by its solvers of several orders."""

    x: torch.Tensor
    t: torch.Tensor
    target: torch.Tensor
    known: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def h(self) -> torch.Tensor:
        return self.target - self.t

    def eps(self, name: str, x: torch.Tensor, t: torch.Tensor) -> Walk:
        if name not in self.known:
            sigma = t.neg().exp()
            denoised = yield x, sigma
            self.known[name] = (x - denoised) / sigma
        return self.known[name]

    def part(self, r: float, first: torch.Tensor) -> torch.Tensor:
        """First-order state at the share `r` of the step."""
        h = r * self.h
        return self.x - (self.t + h).neg().exp() * h.expm1() * first

    def order1(self) -> Walk:
        first = yield from self.eps("0", self.x, self.t)
        return self.part(1.0, first)

    def order2(self, r: float = 1 / 2) -> Walk:
        first = yield from self.eps("0", self.x, self.t)
        second = yield from self.eps("1", self.part(r, first), self.t + r * self.h)
        sigma = self.target.neg().exp()
        return self.part(1.0, first) - sigma / (2 * r) * self.h.expm1() * (second - first)

    def order3(self, r1: float = 1 / 3, r2: float = 2 / 3) -> Walk:
        h, s2 = self.h, self.t + r2 * self.h
        first = yield from self.eps("0", self.x, self.t)
        second = yield from self.eps("1", self.part(r1, first), self.t + r1 * h)
        bend = s2.neg().exp() * (r2 / r1) * ((r2 * h).expm1() / (r2 * h) - 1)
        third = yield from self.eps("2", self.part(r2, first) - bend * (second - first), s2)
        return self.part(1.0, first) - self.target.neg().exp() / r2 * (h.expm1() / h - 1) * (third - first)


def _goal(t: torch.Tensor, after: torch.Tensor, end: torch.Tensor, eta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a step from t to `after` with noise is to land, and the noise's sigma."""
    if not eta:
        return after, torch.zeros(())
    down, _ = ancestral(t.neg().exp(), after.neg().exp(), eta)
    target = torch.minimum(end, -down.log())
    return target, ((2 * after.neg()).exp() - (2 * target.neg()).exp()).clamp(min=0).sqrt()


def _span(course: Course) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Start and end in t = -log sigma, and the number of calls."""
    high, low, calls = course.span or (float(course.levels[0]), float(course.levels[-2]), len(course.levels) - 1)
    return -torch.tensor(high).log(), -torch.tensor(low).log(), calls


def dpm_fast(x: torch.Tensor, course: Course) -> Walk:
    """DPM-Solver-fast: exactly as many calls as steps, in steps of order 3 and a rest, evenly spaced in log sigma."""
    start, end, calls = _span(course)
    if not end > start:
        return x
    many = calls // 3 + 1
    orders = [3] * (many - 2) + [2, 1] if calls % 3 == 0 else [3] * (many - 1) + [calls % 3]
    eta = course.ancestral_eta
    for order, (t, after) in zip(orders, pairs(torch.linspace(float(start), float(end), many + 1)), strict=True):
        target, up = _goal(t, after, end, eta)
        step = _Step(x, t, target)
        x = yield from (step.order1, step.order2, step.order3)[order - 1]()
        x = x + up * course.churn.noise * course.noise()
    return x


@dataclass(slots=True)
class _Pace:
    """The step size controller of DPM-Solver-adaptive, with k-diffusion's integral coefficient 1."""

    h: float
    order: float
    safety: float = 0.81

    def accepts(self, error: float) -> bool:
        factor = (1 / (error + 1e-8)) ** (1 / self.order)
        factor = 1 + math.atan(factor - 1)
        self.h *= factor
        return factor >= self.safety


RTOL, ATOL, FIRST_STEP = 0.05, 0.0078, 0.05
SHORTEST = 1e-6
"""A step in log sigma below which an adaptive walk would never end; numbers that are none lead there."""


def dpm_adaptive(
    x: torch.Tensor, course: Course
) -> Generator[tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]:
    """DPM-Solver-23: the step size follows the difference between orders 2 and 3; the number of steps has no say."""
    t, end, _ = _span(course)
    eta = course.ancestral_eta
    pace = _Pace(FIRST_STEP, 1.5 if eta else 3)
    before = x
    while t < end - 1e-5 and pace.h > SHORTEST:
        after = torch.minimum(end, t + pace.h)
        target, up = _goal(t, after, end, eta)
        step = _Step(x, t, target)
        low = yield from step.order2(1 / 3)
        high = yield from step.order3()
        delta = (RTOL * torch.maximum(low.abs(), before.abs())).clamp(min=ATOL)
        error = float(torch.linalg.norm((low - high) / delta)) / math.sqrt(x.numel())
        if pace.accepts(error):
            before = low
            x = high + up * course.churn.noise * course.noise()
            t = after
    return x
