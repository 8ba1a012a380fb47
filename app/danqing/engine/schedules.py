"""Noise schedules: how many steps at which sigma. All lists fall, and all but KL Optimal's end in 0.

Sigmas are k-diffusion's: sigma_t = sqrt((1 - abar_t) / abar_t) for t = 0..999 (Karras et al. 2022,
https://arxiv.org/abs/2206.00364). The rules are the WebUI's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from danqing.engine import catalog
from danqing.options import DrawOptions


class ModelSigmas:
    """The sigmas that a model was trained on, and the way between sigma and timestep.

    Args:
        alphas_cumprod: float32 or float16, (1000,), falling. Sigmas are computed in its precision.
        quantize: whether `to_t` goes to the nearest whole timestep.
    """

    def __init__(self, alphas_cumprod: torch.Tensor, *, quantize: bool = False) -> None:
        self.alphas_cumprod = alphas_cumprod
        sigmas = ((1 - alphas_cumprod) / alphas_cumprod) ** 0.5
        self.sigmas = sigmas.float()
        self.log_sigmas = sigmas.log().float()
        self.quantize = quantize
        self._variants: dict[tuple[bool, bool, bool], ModelSigmas] = {}

    @property
    def sigma_min(self) -> float:
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigmas[-1])

    @property
    def timesteps(self) -> tuple[int, int]:
        """The last and the first timestep that it was trained on."""
        return len(self.sigmas) - 1, 0

    def variant(self, options: DrawOptions) -> ModelSigmas:
        """The same model under a request's options of noise schedule, each made once."""
        key = (
            options.use_downcasted_alpha_bar,
            options.sd_noise_schedule == "Zero Terminal SNR",
            options.enable_quantization,
        )
        if not any(key):
            return self
        if key not in self._variants:
            downcast, zero_terminal, quantize = key
            alphas = self.alphas_cumprod.half() if downcast else self.alphas_cumprod
            alphas = zero_terminal_snr(alphas) if zero_terminal else alphas
            self._variants[key] = ModelSigmas(alphas, quantize=quantize)
        return self._variants[key]

    def to_sigma(self, t: torch.Tensor) -> torch.Tensor:
        """Sigmas of fractional timesteps, log-linear between the model's own."""
        low, high, w = t.floor().long(), t.ceil().long(), t.frac()
        return ((1 - w) * self.log_sigmas[low] + w * self.log_sigmas[high]).exp()

    def to_t(self, sigma: torch.Tensor) -> torch.Tensor:
        """Fractional timesteps of positive sigmas, the inverse of `to_sigma`."""
        log_sigma = sigma.log()
        distances = log_sigma - self.log_sigmas[:, None]
        if self.quantize:
            return distances.abs().argmin(dim=0).float()
        low = distances.ge(0).cumsum(dim=0).argmax(dim=0).clamp(max=len(self.log_sigmas) - 2)
        below, above = self.log_sigmas[low], self.log_sigmas[low + 1]
        w = ((below - log_sigma) / (below - above)).clamp(0, 1)
        return (1 - w) * low + w * (low + 1)


SMALLEST_ALPHA = 4.8973451890853435e-08
"""abar of the last timestep under zero terminal SNR: 0 would make its sigma infinite."""


def zero_terminal_snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """abar rescaled so that the last timestep is noise alone, Lin et al. 2023 (https://arxiv.org/abs/2305.08891)."""
    root = alphas_cumprod.sqrt()
    first, last = root[0].clone(), root[-1].clone()
    rescaled = ((root - last) * (first / (first - last))) ** 2
    rescaled[-1] = SMALLEST_ALPHA
    return rescaled


def linear_alphas(start: float = 0.00085, end: float = 0.012, count: int = 1000) -> torch.Tensor:
    """abar of SD 1.x's "scaled linear" betas, float32 (count,)."""
    betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0).float()


@dataclass(frozen=True, slots=True)
class Scale:
    """What a schedule is made from: the model, the ends that it may use, and shape parameters."""

    model: ModelSigmas
    low: float
    high: float
    rho: float = 0.0
    """0 is the rule's own."""
    beta: tuple[float, float] = (0.6, 0.6)
    xl: bool = False

    def ends(self) -> tuple[float, float]:
        """The timesteps of the largest and the smallest sigma."""
        ends = self.model.to_t(torch.tensor([self.high, self.low]))
        return float(ends[0]), float(ends[1])


Rule = Callable[[Scale, int], torch.Tensor]


def _append_zero(sigmas: torch.Tensor) -> torch.Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _uniform(scale: Scale, n: int) -> torch.Tensor:
    return _append_zero(scale.model.to_sigma(torch.linspace(*scale.model.timesteps, n)))


def karras(n: int, low: float, high: float, rho: float = 7.0) -> torch.Tensor:
    """n sigmas from `high` to `low`, even in sigma^(1/rho), and 0; float32, (n + 1,)."""
    ramp = torch.linspace(0, 1, n)
    start, end = high ** (1 / rho), low ** (1 / rho)
    return _append_zero((start + ramp * (end - start)) ** rho)


def _karras(scale: Scale, n: int) -> torch.Tensor:
    return karras(n, scale.low, scale.high, scale.rho or 7.0)


def _exponential(scale: Scale, n: int) -> torch.Tensor:
    return _append_zero(torch.linspace(math.log(scale.high), math.log(scale.low), n).exp())


def _polyexponential(scale: Scale, n: int) -> torch.Tensor:
    low, high = math.log(scale.low), math.log(scale.high)
    return _append_zero((torch.linspace(1, 0, n) ** (scale.rho or 1.0) * (high - low) + low).exp())


def _sgm_uniform(scale: Scale, n: int) -> torch.Tensor:
    start, end = scale.ends()
    return _append_zero(scale.model.to_sigma(torch.linspace(start, end, n + 1)[:-1]))


def _kl_optimal(scale: Scale, n: int) -> torch.Tensor:
    part = torch.arange(n + 1) / n
    return torch.tan(part * math.atan(scale.low) + (1 - part) * math.atan(scale.high))


AYS_SD15 = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
"""Align Your Steps, Sabour et al. 2024 (https://arxiv.org/abs/2404.14507), table for SD 1.5."""


AYS_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)
"""The same for SDXL."""


def _align_your_steps(scale: Scale, n: int) -> torch.Tensor:
    known = np.log((AYS_SDXL if scale.xl else AYS_SD15)[::-1])
    at = np.linspace(0, 1, n)
    values = np.exp(np.interp(at, np.linspace(0, 1, len(known)), known))[::-1].copy()
    return _append_zero(torch.tensor(values, dtype=torch.float32))


def _simple(scale: Scale, n: int) -> torch.Tensor:
    own = scale.model.sigmas
    stride = len(own) / n
    return torch.tensor([float(own[-(1 + int(i * stride))]) for i in range(n)] + [0.0])


def _normal(scale: Scale, n: int) -> torch.Tensor:
    start, end = scale.ends()
    return _append_zero(scale.model.to_sigma(torch.linspace(start, end, n)))


def _ddim(scale: Scale, n: int) -> torch.Tensor:
    own = scale.model.sigmas
    stride = max(len(own) // n, 1)
    return torch.tensor([*[float(s) for s in own[1::stride]][::-1], 0.0])


def _beta(scale: Scale, n: int) -> torch.Tensor:
    from scipy.special import betaincinv  # scipy.stats takes a second to import

    part = betaincinv(*scale.beta, 1 - np.linspace(0, 1, n))
    return _append_zero(torch.tensor(scale.low + (scale.high - scale.low) * part, dtype=torch.float32))


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


OLD_ENDS = (0.1, 10.0)
"""Smallest and largest sigma of schedules made before the WebUI read them from the model."""


def sigmas(
    label: str,
    model: ModelSigmas,
    steps: int,
    options: DrawOptions | None = None,
    *,
    discard: bool = False,
    xl: bool = False,
) -> torch.Tensor:
    """The schedule `label` (as in the catalogue) in `steps` steps: float32, usually (steps + 1,).

    `discard` makes it a step longer and leaves out the last but one sigma. `model` is the variant under `options`.

    Raises:
        DanqingError: `unknown_scheduler`.
    """
    options = options or DrawOptions()
    rule = RULES[catalog.schedule(label).label]
    low, high = OLD_ENDS if options.use_old_karras_scheduler_sigmas else (model.sigma_min, model.sigma_max)
    scale = Scale(
        model,
        options.sigma_min or low,
        options.sigma_max or high,
        options.rho,
        (options.beta_dist_alpha, options.beta_dist_beta),
        xl,
    )
    discard = discard or options.always_discard_next_to_last_sigma
    found = rule(scale, steps + discard)
    return torch.cat([found[:-2], found[-1:]]) if discard else found


def ddim_timesteps(steps: int, count: int = 1000) -> list[int]:
    """Rising timesteps 1, 1 + count // steps, ...; there may be more of them than `steps`."""
    return [min(max(t + 1, 0), count - 1) for t in range(0, count, max(count // steps, 1))]
