"""Noise schedules: how many steps at which sigma. All lists fall, and all but KL Optimal's end in 0.

Sigmas are k-diffusion's: sigma_t = sqrt((1 - abar_t) / abar_t) for t = 0..999 (Karras et al. 2022,
https://arxiv.org/abs/2206.00364). The rules are the WebUI's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from danqing.engine import catalog


class ModelSigmas:
    """The sigmas that a model was trained on, and the way between sigma and timestep.

    Args:
        alphas_cumprod: float32, (1000,), falling.
    """

    def __init__(self, alphas_cumprod: torch.Tensor) -> None:
        self.alphas_cumprod = alphas_cumprod
        self.sigmas = ((1 - alphas_cumprod) / alphas_cumprod) ** 0.5
        self.log_sigmas = self.sigmas.log()

    @property
    def sigma_min(self) -> float:
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigmas[-1])

    def to_sigma(self, t: torch.Tensor) -> torch.Tensor:
        """Sigmas of fractional timesteps, log-linear between the model's own."""
        low, high, w = t.floor().long(), t.ceil().long(), t.frac()
        return ((1 - w) * self.log_sigmas[low] + w * self.log_sigmas[high]).exp()

    def to_t(self, sigma: torch.Tensor) -> torch.Tensor:
        """Fractional timesteps of positive sigmas, the inverse of `to_sigma`."""
        log_sigma = sigma.log()
        distances = log_sigma - self.log_sigmas[:, None]
        low = distances.ge(0).cumsum(dim=0).argmax(dim=0).clamp(max=len(self.log_sigmas) - 2)
        below, above = self.log_sigmas[low], self.log_sigmas[low + 1]
        w = ((below - log_sigma) / (below - above)).clamp(0, 1)
        return (1 - w) * low + w * (low + 1)


def linear_alphas(start: float = 0.00085, end: float = 0.012, count: int = 1000) -> torch.Tensor:
    """abar of SD 1.x's "scaled linear" betas, float32 (count,)."""
    betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0).float()


Rule = Callable[[ModelSigmas, int], torch.Tensor]


def _append_zero(sigmas: torch.Tensor) -> torch.Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _uniform(model: ModelSigmas, n: int) -> torch.Tensor:
    return _append_zero(model.to_sigma(torch.linspace(len(model.sigmas) - 1, 0, n)))


def _karras(model: ModelSigmas, n: int) -> torch.Tensor:
    rho = 7.0
    ramp = torch.linspace(0, 1, n)
    low, high = model.sigma_min ** (1 / rho), model.sigma_max ** (1 / rho)
    return _append_zero((high + ramp * (low - high)) ** rho)


def _exponential(model: ModelSigmas, n: int) -> torch.Tensor:
    return _append_zero(torch.linspace(math.log(model.sigma_max), math.log(model.sigma_min), n).exp())


def _polyexponential(model: ModelSigmas, n: int) -> torch.Tensor:
    low, high = math.log(model.sigma_min), math.log(model.sigma_max)
    return _append_zero((torch.linspace(1, 0, n) * (high - low) + low).exp())


def _ends(model: ModelSigmas) -> tuple[float, float]:
    ends = model.to_t(torch.tensor([model.sigma_max, model.sigma_min]))
    return float(ends[0]), float(ends[1])


def _sgm_uniform(model: ModelSigmas, n: int) -> torch.Tensor:
    start, end = _ends(model)
    return _append_zero(model.to_sigma(torch.linspace(start, end, n + 1)[:-1]))


def _kl_optimal(model: ModelSigmas, n: int) -> torch.Tensor:
    part = torch.arange(n + 1) / n
    return torch.tan(part * math.atan(model.sigma_min) + (1 - part) * math.atan(model.sigma_max))


AYS_SD15 = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
"""Align Your Steps, Sabour et al. 2024 (https://arxiv.org/abs/2404.14507), table for SD 1.5."""


def _align_your_steps(model: ModelSigmas, n: int) -> torch.Tensor:
    known = np.log(AYS_SD15[::-1])
    at = np.linspace(0, 1, n)
    values = np.exp(np.interp(at, np.linspace(0, 1, len(known)), known))[::-1].copy()
    return _append_zero(torch.tensor(values, dtype=torch.float32))


def _simple(model: ModelSigmas, n: int) -> torch.Tensor:
    stride = len(model.sigmas) / n
    return torch.tensor([float(model.sigmas[-(1 + int(i * stride))]) for i in range(n)] + [0.0])


def _normal(model: ModelSigmas, n: int) -> torch.Tensor:
    start, end = _ends(model)
    return _append_zero(model.to_sigma(torch.linspace(start, end, n)))


def _ddim(model: ModelSigmas, n: int) -> torch.Tensor:
    stride = max(len(model.sigmas) // n, 1)
    return torch.tensor([*[float(s) for s in model.sigmas[1::stride]][::-1], 0.0])


def _beta(model: ModelSigmas, n: int) -> torch.Tensor:
    from scipy.special import betaincinv  # scipy.stats takes a second to import

    part = betaincinv(0.6, 0.6, 1 - np.linspace(0, 1, n))
    return _append_zero(torch.tensor(model.sigma_min + (model.sigma_max - model.sigma_min) * part, dtype=torch.float32))


RULES: dict[str, Rule] = {
    "Automatic": _uniform,
    "Uniform": _uniform,
    "Karras": _karras,
    "Exponential": _exponential,
    "Polyexponential": _polyexponential,
    "SGM Uniform": _sgm_uniform,
    "KL Optimal": _kl_optimal,
    "Align Your Steps": _align_your_steps,
    "Simple": _simple,
    "Normal": _normal,
    "DDIM": _ddim,
    "Beta": _beta,
}


def sigmas(label: str, model: ModelSigmas, steps: int) -> torch.Tensor:
    """The schedule `label` (as in the catalogue) in `steps` steps: float32, usually (steps + 1,).

    Raises:
        DanqingError: `unknown_scheduler`.
    """
    return RULES[catalog.schedule(label).label](model, steps)


def ddim_timesteps(steps: int, count: int = 1000) -> list[int]:
    """Rising timesteps 1, 1 + count // steps, ...; there may be more of them than `steps`."""
    return [min(max(t + 1, 0), count - 1) for t in range(0, count, max(count // steps, 1))]
