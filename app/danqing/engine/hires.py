"""Hires fix: the first pass enlarged, then drawn over (spec 12)."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from danqing.engine import passes
from danqing.engine.calls import Call
from danqing.engine.enlarging import enlarged
from danqing.engine.passes import Hands, Scene, Stage
from danqing.errors import DanqingError
from danqing.request import GenerateRequest, Hires, hires_size
from danqing.upscale.catalog import LATENT_MODES

if TYPE_CHECKING:
    from danqing.engine.models import Model


LATENT = "Latent"
"""What no upscaler means."""


def cropped_size(request: GenerateRequest, hires: Hires) -> tuple[int, int, int, int]:
    """Latent columns and rows to cut where the target has another shape, and the latent's size after that (w, h)."""
    width, height = hires_size(request, hires)
    cut_x = (width - hires.resize_x) // 8 if hires.resize_x and hires.resize_y else 0
    cut_y = (height - hires.resize_y) // 8 if hires.resize_x and hires.resize_y else 0
    return cut_x, cut_y, width // 8 - cut_x, height // 8 - cut_y


def second_stage(request: GenerateRequest, hires: Hires, start: torch.Tensor | None = None) -> Stage:
    """The second pass. "" takes what the first pass had.

    Raises:
        DanqingError: `invalid_field`, without a denoising strength.
    """
    if request.denoising_strength is None:
        raise DanqingError("invalid_field", field="denoising_strength", reason="hires fix needs one, 0 to 1")
    _, _, width, height = cropped_size(request, hires)
    return Stage(
        model=hires.checkpoint or request.model,
        prompt=hires.prompt or request.prompt,
        negative_prompt=hires.negative_prompt or request.negative_prompt,
        sampler=hires.sampler or request.sampler,
        scheduler=hires.scheduler or request.scheduler,
        steps=hires.steps or request.steps,
        width=width * 8,
        height=height * 8,
        hires=True,
        start=torch.zeros(4, height, width) if start is None else start,
        denoising=request.denoising_strength,
        steps_given=True,
    )


def second_pass(
    scene: Scene, hires: Hires, first: torch.Tensor | np.ndarray[Any, Any], hands: Hands
) -> Generator[Call, Any, tuple[torch.Tensor, Model]]:
    """The final latent and the model that drew it.

    Args:
        first: latent (4, h, w) of the first pass, or the pixels (h, w, 3) uint8 that stand for it.
        hands: of the first pass.
    """
    request = scene.request
    stage = second_stage(request, hires)
    # With the first pass' conditionings its networks change how the prompts are read, and the second's the UNet.
    early = request.options.hires_fix_use_firstpass_conds and not hires.checkpoint
    second = yield from passes.ready(scene, stage, hands.networks if early else None)
    if hires.checkpoint:
        scene.tell({"Hires checkpoint": passes.short_title(second.model)})
    start = yield from _start(scene, hires, first, hands.model, second.model)
    cut_x, cut_y, _, _ = cropped_size(request, hires)
    if cut_x or cut_y:
        _, height, width = start.shape
        start = start[:, cut_y // 2 : height - (cut_y + 1) // 2, cut_x // 2 : width - (cut_x + 1) // 2]
    stage = second_stage(request, hires, start)
    second.guide.concat = yield from passes.blank_concat(scene, second.model, stage)
    latent = yield from passes.sampled(scene, stage, second)
    return latent, second.model


def _start(
    scene: Scene, hires: Hires, first: torch.Tensor | np.ndarray[Any, Any], model: Model, target: Model
) -> Generator[Call, Any, torch.Tensor]:
    width, height = hires_size(scene.request, hires)
    upscaler = hires.upscaler or LATENT
    if upscaler in LATENT_MODES:
        if isinstance(first, np.ndarray):
            first = yield from passes.encoded_image(scene, target, unit_pixels(first))
        mode, antialias = LATENT_MODES[upscaler]
        return torch.nn.functional.interpolate(
            first[None], size=(height // 8, width // 8), mode=mode, antialias=antialias
        )[0]
    shown = first if isinstance(first, np.ndarray) else (yield from passes.decoded(scene, model, first))
    pixels = yield from enlarged(scene.studio, scene.request.options, upscaler, shown, width, height)
    latent = yield from passes.encoded_image(scene, target, unit_pixels(pixels))
    return latent


def unit_pixels(pixels: np.ndarray[Any, Any]) -> torch.Tensor:
    """uint8 (h, w, 3) as float32 in -1..1."""
    return torch.from_numpy(np.array(pixels)).float() / 255 * 2 - 1
