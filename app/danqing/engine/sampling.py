"""From noise to the final latent: where a sampler starts, how many steps it takes, and what its model calls mean.

The rules of steps and starts are the WebUI's. `sample` is the one way that plans draw a latent by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch

from danqing.engine import catalog
from danqing.engine.calls import Call, Track
from danqing.engine.catalog import Family, SamplerRow
from danqing.engine.device import CPU_DEVICE as CPU
from danqing.engine.device import placed
from danqing.engine.noise import PictureNoise
from danqing.engine.samplers import walk_of
from danqing.engine.samplers_base import DEFAULTS, Churn, Course
from danqing.engine.samplers_lcm import LcmSigmas, bounded
from danqing.engine.schedules import ModelSigmas, ddim_timesteps, sigmas
from danqing.options import DrawOptions


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network said about one x, (4, h, w): its raw output, noise or v, with guidance and without.

    `uncond` may be None unless the sampler's row says `needs_uncond`.
    """

    guided: torch.Tensor
    uncond: torch.Tensor | None = None


Predict = Callable[[torch.Tensor, float, float, int, int], Generator[Call, Any, Prediction]]
"""(x, t, sigma, call, total): x (4, h, w) scaled for the network; t a fractional timestep; `call` counts from 0.

For samplers along timesteps sigma is t, as the WebUI has it. `total` is what prompt schedules and shares of the way divide by.
"""

Blend = Callable[[torch.Tensor, float | None], torch.Tensor]
"""Holds a latent (4, h, w) to a picture outside a mask. The number is the sigma (timestep samplers: t), None at the very end."""


@dataclass(slots=True)
class ModelView:
    """What a sampler must know of the network behind `predict`, which may replace it in the middle of the way (refiner).

    `prediction`: "epsilon" or "v". `xl`: of the SDXL family, for schedules made for a family. `device`: where the network is.
    """

    sigmas: ModelSigmas
    prediction: str = "epsilon"
    xl: bool = False
    device: torch.device = CPU


@dataclass(frozen=True, slots=True)
class SampleSpec:
    """One pass of a sampler over one picture.

    `sampler` is a name of the catalogue, `schedule` as asked for ("Automatic" too). With `start_latent` (4, h, w) the pass begins
    from that latent, noised as far as `denoising` 0..1 says; `steps_given` makes it do all of `steps`, as hires fix and "fix
    steps" want it. `noise_multiplier` scales the noise it begins with. `eta` and `s_*` None are the sampler's own; `s_tmax` 0 is
    infinity.
    """

    sampler: str
    schedule: str
    steps: int
    view: ModelView
    shape: tuple[int, ...]
    options: DrawOptions = DEFAULTS
    eta: float | None = None
    s_churn: float | None = None
    s_tmin: float | None = None
    s_tmax: float | None = None
    s_noise: float | None = None
    start_latent: torch.Tensor | None = None
    denoising: float | None = None
    steps_given: bool = False
    noise_multiplier: float = 1.0
    blend: Blend | None = None

    @property
    def row(self) -> SamplerRow:
        return catalog.sampler(self.sampler)


def mask_blend(repaint: torch.Tensor, kept: torch.Tensor) -> Blend:
    """The plain blend: `kept` (4, h, w) where `repaint` (broadcast to it) is 0, the drawn latent where it is 1."""
    there: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def blend(latent: torch.Tensor, _sigma: float | None) -> torch.Tensor:
        device = latent.device
        if device not in there:
            there[device] = placed(repaint, device), placed(kept, device)
        mask, picture = there[device]
        return latent * mask + picture * (1 - mask)

    return blend


def steps_of(spec: SampleSpec) -> tuple[int, int]:
    """Steps of the whole schedule, and how many of them are taken at most."""
    if spec.start_latent is None:
        return spec.steps, spec.steps
    share = min(spec.denoising or 0.0, 0.999)
    if spec.steps_given:
        return (int(spec.steps / share) if share > 0 else 0), spec.steps
    return spec.steps, int(share * spec.steps) + 1


def prompt_steps(spec: SampleSpec) -> int:
    """The number of steps that prompt schedules are made for: second-order samplers count double."""
    return spec.row.total_calls(spec.steps)


def calls_of(spec: SampleSpec) -> int:
    """Denoiser calls that `sample` will make; for DPM adaptive, whose way depends on the picture, a guess.

    Found by walking the way with a model that thinks of every picture as white noise.
    """
    way = _way(spec)
    if way is None:
        return 0
    course = _course(spec, way, lambda: torch.zeros(()), None)
    walk = walk_of(spec.sampler, torch.ones(1) * (way.start or 1.0), course)
    count, answer = 0, None
    try:
        while True:
            x, level = walk.send(answer)  # type: ignore[arg-type]
            count += 1
            answer = x / (level**2 + 1) if spec.row.family is Family.SIGMA else x
            if spec.row.needs_uncond:
                answer = torch.stack([answer, answer])
    except StopIteration:
        return count


def sample(spec: SampleSpec, predict: Predict, noise: PictureNoise, track: Track) -> Generator[Call, Any, torch.Tensor]:
    """The final latent, (4, h, w), on the CPU. Interrupted or skipped, it is the last estimate of the clean one.

    On the way the latent stays on the model's device and nothing there is waited for: levels are numbers of the CPU, noise goes
    over without waiting. The one exception is DPM adaptive, whose step size depends on the picture.

    Raises:
        DanqingError: `unknown_sampler` or `unknown_scheduler`.
    """
    way = _way(spec)
    if way is None:
        assert spec.start_latent is not None
        return spec.start_latent
    device = spec.view.device
    x = _start(spec, way, placed(noise.first(spec.shape), device))
    course = _course(spec, way, lambda: placed(noise.next(spec.shape), device), noise)
    walk = walk_of(spec.sampler, x, course)
    ask = _asker(spec, predict, track)
    answer: torch.Tensor | None = None
    total = spec.row.total_calls(steps_of(spec)[1])
    for call in range(MOST_CALLS):
        try:
            # A fresh generator is sent None; a walk of no steps returns at once, without a single call.
            x, level = walk.send(answer)  # type: ignore[arg-type]
        except StopIteration as stop:
            x = stop.value
            break
        answer = yield from ask(x, level, call, total)
        track.step = min(track.step + 1, track.steps)
        if (track.interrupted or track.skipped) and track.denoised is not None:
            x = track.denoised
            break
    return (x if spec.blend is None else spec.blend(x, None)).cpu()


MOST_CALLS = 100_000
"""Beyond every real walk; ends an adaptive one that never arrives."""


@dataclass(frozen=True, slots=True)
class _Way:
    """Levels of the whole schedule and the part of it that is walked.

    `start`: the first sigma (0.0 for timestep samplers). `noised`: abar of the timestep where a noised latent begins.
    """

    whole: torch.Tensor
    levels: torch.Tensor
    model: ModelSigmas
    start: float = 0.0
    noised: float = 1.0


def _way(spec: SampleSpec) -> _Way | None:
    """None where there is nothing to walk: a second pass of denoising 0."""
    steps, taken = steps_of(spec)
    if steps == 0:
        return None
    return _sigma_way(spec, steps, taken) if spec.row.family is Family.SIGMA else _timestep_way(spec, steps, taken)


def sigmas_of(spec: SampleSpec) -> ModelSigmas:
    """What the sampler takes for the model's sigmas, under the request's options."""
    model = spec.view.sigmas.variant(spec.options)
    return LcmSigmas(model) if spec.sampler == "LCM" else model


def _sigma_way(spec: SampleSpec, steps: int, taken: int) -> _Way:
    model = sigmas_of(spec)
    label = catalog.resolved_schedule(spec.sampler, spec.schedule)
    whole = sigmas(label, model, steps, spec.options, discard=spec.row.discards, xl=spec.view.xl)
    levels = whole if spec.start_latent is None else whole[steps - taken :]
    return _Way(whole, levels, model, start=float(levels[0]))


def _timestep_way(spec: SampleSpec, steps: int, taken: int) -> _Way:
    model = sigmas_of(spec)
    whole = torch.tensor(ddim_timesteps(steps + spec.options.always_discard_next_to_last_sigma))
    if spec.start_latent is None:
        return _Way(whole, whole, model)
    first = min(taken - 1, len(whole) - 1)
    return _Way(whole, whole[:first], model, noised=float(model.alphas_cumprod[whole[first]]))


def _start(spec: SampleSpec, way: _Way, noise: torch.Tensor) -> torch.Tensor:
    noise = noise * spec.noise_multiplier
    if spec.start_latent is None:
        if spec.row.family is Family.TIMESTEP:
            return noise
        return noise * (math.sqrt(1 + way.start**2) if spec.options.sgm_noise_multiplier else way.start)
    extra = spec.options.img2img_extra_noise
    start = placed(spec.start_latent, noise.device)
    if spec.row.family is Family.SIGMA:
        return start + noise * way.start + noise * extra
    alpha = math.sqrt(way.noised)
    return start * alpha + noise * math.sqrt(1 - way.noised) + noise * extra * alpha


def _course(spec: SampleSpec, way: _Way, draw: Callable[[], torch.Tensor], noise: PictureNoise | None) -> Course:
    row, resumed = spec.row, spec.start_latent is not None
    # The catalogue says which parameters reach a sampler: the others keep their defaults, whatever the request says.
    churn = Churn(
        spec.s_churn or 0.0 if row.takes_churn else 0.0,
        spec.s_tmin or 0.0 if row.takes_churn else 0.0,
        spec.s_tmax or math.inf if row.takes_churn else math.inf,
        spec.s_noise if row.takes_noise and spec.s_noise is not None else 1.0,
    )
    span = None
    if row.family is Family.SIGMA:
        span = (
            (float(way.levels[0]), float(way.levels[-2]), len(way.levels) - 1)
            if resumed
            else (way.model.sigma_max, way.model.sigma_min, spec.steps)
        )
    brownian = None
    if noise is not None and row.brownian:
        # k-diffusion's own path spans what is walked, the WebUI's the whole schedule.
        own = spec.options.no_dpmpp_sde_batch_determinism
        path = noise.brownian(spec.shape, way.levels if own else way.whole, shared=not own)
        device = spec.view.device
        brownian = lambda high, low: placed(path(high, low), device)  # noqa: E731
    return Course(
        way.levels,
        draw,
        way.model,
        eta=spec.eta,
        churn=churn,
        brownian=brownian,
        options=spec.options,
        span=span,
        resumed=resumed,
    )


_Ask = Callable[[torch.Tensor, torch.Tensor, int, int], Generator[Call, Any, torch.Tensor]]


def _asker(spec: SampleSpec, predict: Predict, track: Track) -> _Ask:
    """How a sampler's question becomes a prediction and its answer, by family.

    The view is looked at anew after every prediction, which may have changed the model.
    """

    def sigma_ask(x: torch.Tensor, sigma: torch.Tensor, call: int, total: int) -> Generator[Call, Any, torch.Tensor]:
        t = float(sigmas_of(spec).to_t(sigma.reshape(1)))
        root = (sigma**2 + 1).sqrt()
        said = yield from predict(x / root, t, float(sigma), call, total)
        clean = x - said.guided * sigma
        if spec.view.prediction == "v":
            clean = x / root**2 - said.guided * (sigma / root)
        if spec.sampler == "LCM":
            clean = bounded(x, clean, t)
        track.denoised = clean if spec.blend is None else spec.blend(clean, float(sigma))
        return track.denoised

    def timestep_ask(x: torch.Tensor, t: torch.Tensor, call: int, total: int) -> Generator[Call, Any, torch.Tensor]:
        if spec.blend is not None:
            x = spec.blend(x, float(t))
        said = yield from predict(x, float(t), float(t), call, total)
        alpha = spec.view.sigmas.variant(spec.options).alphas_cumprod[int(t)]
        root, rest = alpha.sqrt(), (1 - alpha).sqrt()
        noises = said.guided
        if spec.row.needs_uncond:
            assert said.uncond is not None
            noises = torch.stack([said.guided, said.uncond])
        if spec.view.prediction == "v":
            noises = noises * root + x * rest
        guided = noises.unbind(0)[0] if spec.row.needs_uncond else noises
        track.denoised = (x - rest * guided) / root
        return noises

    return sigma_ask if spec.row.family is Family.SIGMA else timestep_ask
