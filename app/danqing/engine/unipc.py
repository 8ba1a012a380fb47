"""UniPC, Zhao et al. 2023 (https://arxiv.org/abs/2302.04867): multistep, predicting x0, order 3, variant B1(h).

Time runs from 1 to 1/1000 at even distances; the model is asked at t * 1000 - 1, as the paper's code does for discrete
schedules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from danqing.engine.samplers_base import Course, Walk
from danqing.engine.schedules import ModelSigmas

ORDER = 3


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


@dataclass(frozen=True, slots=True)
class _Past:
    t: float
    clean: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Step:
    """One step's linear part and the pieces that predictor and corrector weigh."""

    linear: torch.Tensor
    scale: float
    differences: list[torch.Tensor]
    predictor: np.ndarray
    corrector: np.ndarray


def unipc(x: torch.Tensor, course: Course) -> Walk:
    """As many model calls as there are timesteps; the last step has no corrector."""
    path = _Path(course.model)
    steps = len(course.levels)
    times = np.linspace(1.0, 1 / 1000, steps + 1)
    order = min(ORDER, steps)
    past = [_Past(times[0], (yield from _clean(x, times[0], path)))]
    for i in range(1, steps + 1):
        step = _step(x, past, times[i], min(i, order, steps + 1 - i), path)
        predicted = step.linear - step.scale * _weighted(step.predictor, step.differences, x)
        if i == steps:
            return predicted
        clean = yield from _clean(predicted, times[i], path)
        corrections = [*step.differences, clean - past[-1].clean]
        x = step.linear - step.scale * _weighted(step.corrector, corrections, x)
        past = [*past[-(ORDER - 1) :], _Past(times[i], clean)]
    return x


def _clean(x: torch.Tensor, t: float, path: _Path) -> Walk:
    eps = yield x, torch.tensor(t * 1000 - 1, dtype=torch.float32)
    return (x - path.sigma(t) * eps) / float(np.exp(path.log_alpha(t)))


def _step(x: torch.Tensor, past: Sequence[_Past], t: float, order: int, path: _Path) -> _Step:
    last = past[-1]
    h = path.lambda_(t) - path.lambda_(last.t)
    ratios = [(path.lambda_(p.t) - path.lambda_(last.t)) / h for p in reversed(past[-order:-1])]
    differences = [(p.clean - last.clean) / r for p, r in zip(reversed(past[-order:-1]), ratios, strict=True)]
    hh = -h
    phi = np.expm1(hh)
    matrix, right = _system([*ratios, 1.0], hh, phi, order)
    predictor = np.array([0.5]) if order == 2 else np.linalg.solve(matrix[:-1, :-1], right[:-1])
    corrector = np.array([0.5]) if order == 1 else np.linalg.solve(matrix, right)
    alpha = float(np.exp(path.log_alpha(t)))
    linear = path.sigma(t) / path.sigma(last.t) * x - alpha * float(phi) * last.clean
    return _Step(linear, alpha * hh, differences, predictor[: len(differences)], corrector)


def _system(ratios: list[float], hh: float, phi: float, order: int) -> tuple[np.ndarray, np.ndarray]:
    rows, right = [], []
    phi_k, factorial = phi / hh - 1, 1
    for i in range(1, order + 1):
        rows.append(np.power(ratios, i - 1))
        right.append(phi_k * factorial / hh)
        factorial *= i + 1
        phi_k = phi_k / hh - 1 / factorial
    return np.stack(rows), np.array(right)


def _weighted(weights: np.ndarray, parts: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    total = torch.zeros_like(like)
    for weight, part in zip(weights, parts, strict=True):
        total = total + float(weight) * part
    return total
