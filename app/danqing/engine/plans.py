"""How a picture is drawn, as straight-line code that yields model calls.

A plan holds all of its state in local variables. It can be driven by hand with a fake model and dropped at any yield.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from danqing.engine import catalog, noise
from danqing.engine.calls import Call, Decode, Denoise, Encode, Finished, Load, Plan, Row, Track
from danqing.engine.catalog import Family, SamplerRow
from danqing.engine.live import Extent
from danqing.engine.protocol import ImageFacts
from danqing.engine.samplers import Course, Walk, ddim, dpmpp_2m, euler, euler_ancestral, heun, lms
from danqing.engine.schedules import ModelSigmas, ddim_timesteps, sigmas
from danqing.engine.unipc import unipc
from danqing.prompt.chunks import chunks_of
from danqing.prompt.tokenizer import default_tokenizer
from danqing.request import GenerateRequest

if TYPE_CHECKING:
    from danqing.engine.models import Model
    from danqing.library.index import Checkpoint

WALKS = {
    "DPM++ 2M": dpmpp_2m,
    "Euler a": euler_ancestral,
    "Euler": euler,
    "LMS": lms,
    "Heun": heun,
    "DDIM": ddim,
    "UniPC": unipc,
}
"""The function behind each sampler of the catalogue."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """Classifier-free guidance, Ho and Salimans 2022 (https://arxiv.org/abs/2207.12598): uncond + scale * (cond - uncond)."""

    cond: torch.Tensor
    uncond: torch.Tensor | None
    scale: float

    def predict(self, model: Model, x: torch.Tensor, t: float) -> Generator[Call, Any, torch.Tensor]:
        """The guided prediction for x (C, h, w), one or two rows of a UNet forward."""
        contexts = [self.cond] if self.uncond is None else [self.cond, self.uncond]
        out: list[torch.Tensor] = yield Denoise(model, tuple(Row(x, t, context) for context in contexts))
        return out[0] if self.uncond is None else out[1] + self.scale * (out[0] - out[1])


def model_calls(request: GenerateRequest) -> int:
    """UNet calls (of all its rows) that one picture of the request takes, for progress."""
    row = catalog.sampler(request.sampler)
    if row.family is Family.TIMESTEP:
        count = len(ddim_timesteps(request.steps))
        return count - 1 if row.name == "DDIM" else count
    return request.steps * row.calls_per_step - (row.calls_per_step - 1)


def measure(request: GenerateRequest) -> Extent:
    """How much the request is, before any of it is drawn."""
    return Extent(request.image_count, model_calls(request), request.image_count)


def text_to_image(request: GenerateRequest, index: int, checkpoint: Checkpoint, track: Track) -> Plan:
    """Picture number `index` (from 0) of a request with its seed resolved."""
    model: Model = yield Load(checkpoint)
    track.model = model
    tokenizer = default_tokenizer()
    (cond,) = yield Encode(model, (tuple(chunks_of(request.prompt, tokenizer)),), request.clip_skip)
    uncond = None
    if request.cfg_scale != 1.0:
        (uncond,) = yield Encode(model, (tuple(chunks_of(request.negative_prompt, tokenizer)),), request.clip_skip)
    seed = request.seed + index
    draw = noise.generator(request.rng, seed)
    shape = (4, request.height // 8, request.width // 8)
    guidance = Guidance(cond.context, uncond.context if uncond else None, request.cfg_scale)
    latent = yield from sample(request, model, guidance, draw, shape, track)
    pixels = yield Decode(model, latent)
    height, width = pixels.shape[:2]
    yield Finished(
        pixels,
        ImageFacts(
            seed=seed,
            width=width,
            height=height,
            model_name=checkpoint.base,
            model_hash=model.hash10,
            schedule=catalog.used_schedule(request),
        ),
    )


def sample(
    request: GenerateRequest,
    model: Model,
    guidance: Guidance,
    draw: noise.Generator,
    shape: tuple[int, ...],
    track: Track,
) -> Generator[Call, Any, torch.Tensor]:
    """The final latent, (4, h, w). Interrupted, it is the last estimate of the clean one."""
    row = catalog.sampler(request.sampler)
    walk = _walk(row, request, model.sigmas, draw, shape)
    answer: torch.Tensor | None = None
    while True:
        try:
            # A fresh generator is sent None; DDIM of one step returns at once, without a single call.
            ask = walk.send(answer)  # type: ignore[arg-type]
        except StopIteration as stop:
            result: torch.Tensor = stop.value
            return result
        if row.family is Family.SIGMA:
            answer = yield from _denoised(model, guidance, *ask, track)
        else:
            answer = yield from _noise(model, guidance, *ask, track)
        track.step = min(track.step + 1, track.steps)
        if track.interrupted and track.denoised is not None:
            return track.denoised


def _walk(
    row: SamplerRow, request: GenerateRequest, model: ModelSigmas, draw: noise.Generator, shape: tuple[int, ...]
) -> Walk:
    x = draw.randn(shape)
    if row.family is Family.SIGMA:
        levels = sigmas(catalog.used_schedule(request), model, request.steps)
        x = x * levels[0]
    else:
        levels = torch.tensor(ddim_timesteps(request.steps))
    return WALKS[row.name](x, Course(levels, lambda: draw.randn(shape), model, request.eta))


def _denoised(
    model: Model, guidance: Guidance, x: torch.Tensor, sigma: torch.Tensor, track: Track
) -> Generator[Call, Any, torch.Tensor]:
    scaled = x / (sigma**2 + 1).sqrt()
    eps = yield from guidance.predict(model, scaled, float(model.sigmas.to_t(sigma.reshape(1))))
    track.denoised = x - eps * sigma
    return track.denoised


def _noise(
    model: Model, guidance: Guidance, x: torch.Tensor, t: torch.Tensor, track: Track
) -> Generator[Call, Any, torch.Tensor]:
    eps = yield from guidance.predict(model, x, float(t))
    alpha = model.sigmas.alphas_cumprod[int(t)]
    track.denoised = (x - (1 - alpha).sqrt() * eps) / alpha.sqrt()
    return eps
