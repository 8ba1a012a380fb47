"""UniPC, Zhao et al. 2023 (https://arxiv.org/abs/2302.04867): multistep predictor and corrector, predicting x0.

Time runs from 1 (resumed: from the picture's own time) to 1/1000; the model is asked at t * 1000 - 1, as the paper's code does
for discrete schedules. The numbers of the three variants are those of that code (MIT, https://github.com/wl-zhao/UniPC).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from danqing.engine.samplers_base import Course, Walk
from danqing.engine.schedules import ModelSigmas

LAST = 1 / 1000


class _Path:
    """log alpha, sigma and half log-SNR at continuous times in (0, 1], interpolated from the model's 1000 steps."""

    def __init__(self, model: ModelSigmas) -> None:
        self._log_alphas = 0.5 * np.log(model.alphas_cumprod.double().numpy())
        self._times = np.linspace(0, 1, len(self._log_alphas) + 1)[1:]

    def log_alpha(self, t: float) -> float:
        return float(np.interp(t, self._times, self._log_alphas))

    def sigma(self, t: float) -> float:
        return float(np.sqrt(1 - np.exp(2 * self.log_alpha(t))))

    def lambda_(self, t: float) -> float:
        log_alpha = self.log_alpha(t)
        return float(log_alpha - 0.5 * np.log(1 - np.exp(2 * log_alpha)))

    def times(self, skip: str, start: float, steps: int) -> list[float]:
        """steps + 1 times from `start` to the last, even in time, in its root, or in log-SNR."""
        if skip == "time_quadratic":
            return [float(t) for t in np.linspace(start**0.5, LAST**0.5, steps + 1) ** 2]
        if skip == "logSNR":
            lambdas = np.linspace(self.lambda_(start), self.lambda_(LAST), steps + 1)
            log_alphas = -0.5 * np.logaddexp(0, -2 * lambdas)
            return [float(t) for t in np.interp(log_alphas, self._log_alphas[::-1], self._times[::-1])]
        return [float(t) for t in np.linspace(start, LAST, steps + 1)]


@dataclass(frozen=True, slots=True)
class _Past:
    t: float
    clean: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Step:
    """One step's linear part and the pieces that predictor and corrector weigh; the corrector's last piece is still to come."""

    linear: torch.Tensor
    scale: float
    differences: list[torch.Tensor]
    predictor: np.ndarray
    corrector: np.ndarray

    def predicted(self) -> torch.Tensor:
        return self.linear - self.scale * _weighted(self.predictor, self.differences, self.linear)

    def corrected(self, change: torch.Tensor) -> torch.Tensor:
        """`change`: how far the estimate at the predicted latent is from the last one."""
        return self.linear - self.scale * _weighted(self.corrector, [*self.differences, change], self.linear)


def unipc(x: torch.Tensor, course: Course) -> Walk:
    """As many model calls as there are timesteps; the last step has no corrector."""
    steps, options = len(course.levels), course.options
    if not steps:
        return x
    path = _Path(course.model)
    start = float(course.levels[-1].float() / 1000 + LAST) if course.resumed else 1.0
    times = path.times(options.uni_pc_skip_type, start, steps)
    most = min(options.uni_pc_order, steps)
    past = [_Past(times[0], (yield from _clean(x, times[0], path)))]
    for i in range(1, steps + 1):
        order = min(i, most)
        if i >= most and options.uni_pc_lower_order_final:
            order = min(most, steps + 1 - i)
        step = _step(x, past, times[i], order, path, options.uni_pc_variant)
        predicted = step.predicted()
        if i == steps:
            return predicted
        clean = yield from _clean(predicted, times[i], path)
        x = step.corrected(clean - past[-1].clean)
        past = [*past[max(0, len(past) - most + 1) :], _Past(times[i], clean)]
    return x


def _clean(x: torch.Tensor, t: float, path: _Path) -> Walk:
    # In float32, as the paper's code has it: a v-prediction is read at the whole timestep below, which rounding may change.
    eps = yield x, (torch.tensor(t, dtype=torch.float32) - LAST) * 1000
    return (x - path.sigma(t) * eps) / float(np.exp(path.log_alpha(t)))


def _step(x: torch.Tensor, past: Sequence[_Past], t: float, order: int, path: _Path, variant: str) -> _Step:
    last = past[-1]
    h = path.lambda_(t) - path.lambda_(last.t)
    earlier = list(reversed(past[-order:-1]))
    ratios = [(path.lambda_(p.t) - path.lambda_(last.t)) / h for p in earlier]
    differences = [(p.clean - last.clean) / r for p, r in zip(earlier, ratios, strict=True)]
    scale, predictor, corrector = (_vary if variant == "vary_coeff" else _bh)([*ratios, 1.0], -h, variant)
    alpha = float(np.exp(path.log_alpha(t)))
    linear = path.sigma(t) / path.sigma(last.t) * x - alpha * math.expm1(-h) * last.clean
    return _Step(linear, alpha * scale, differences, predictor, corrector)


_Weights = tuple[float, np.ndarray, np.ndarray]
"""What both sums are scaled by, the predictor's weights (one fewer) and the corrector's."""


def _bh(ratios: list[float], hh: float, variant: str) -> _Weights:
    """B(h) is h for bh1 and e^h - 1 for bh2."""
    order, phi = len(ratios), math.expm1(hh)
    scale = phi if variant == "bh2" else hh
    rows, right = [], []
    phi_k, factorial = phi / hh - 1, 1
    for i in range(1, order + 1):
        rows.append(np.power(ratios, i - 1))
        right.append(phi_k * factorial / scale)
        factorial *= i + 1
        phi_k = phi_k / hh - 1 / factorial
    matrix, known = np.stack(rows), np.array(right)
    # The paper's code takes these two as they are in the limit of small h.
    predictor = np.array([0.5]) if order == 2 else np.linalg.solve(matrix[:-1, :-1], known[:-1])
    corrector = np.array([0.5]) if order == 1 else np.linalg.solve(matrix, known)
    return scale, predictor, corrector


def _vary(ratios: list[float], hh: float, _variant: str) -> _Weights:
    """Coefficients that vary with the ratios of the steps. The corrector's last row is taken as the paper's code has it."""
    count = len(ratios)
    columns = [np.power(ratios, k) / math.factorial(k + 1) for k in range(count)]
    matrix = np.stack(columns, axis=1)
    phis, phi = [], math.expm1(hh)
    for k in range(1, count + 2):
        phis.append(phi)
        phi = phi / hh - 1 / math.factorial(k)
    rows = count - 1
    ahead = np.linalg.inv(matrix[:-1, :-1]) if rows else np.zeros((0, 0))
    back = np.linalg.inv(matrix)
    predictor = np.array(phis[1:count]) @ ahead
    corrector = np.append(np.array(phis[1:count]) @ back[:rows, :-1], phis[count] * back[max(rows - 1, 0), -1])
    return 1.0, predictor, corrector


def _weighted(weights: np.ndarray, parts: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    total = torch.zeros_like(like)
    for weight, part in zip(weights, parts, strict=True):
        total = total + float(weight) * part
    return total
