"""Runs the VAE: latents to pixels and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from danqing.engine.calls import Decode, EncodeImage
from danqing.engine.models import Model
from danqing.errors import DanqingError

if TYPE_CHECKING:
    import numpy as np


def decode(calls: Sequence[Decode], device: torch.device) -> list[np.ndarray[Any, Any] | DanqingError]:
    """Pixels of every call, uint8 (8h, 8w, 3); an error in the place of a picture with NaN."""
    model: Model = calls[0].model
    latents = torch.stack([call.latent for call in calls])
    scaled = (latents / model.vae.config.scaling_factor).to(device, model.vae.dtype)
    images = model.vae.decode(scaled, return_dict=False)[0].float().cpu()
    answers: list[np.ndarray[Any, Any] | DanqingError] = []
    for image in images:
        if not bool(torch.isfinite(image).all()):
            answers.append(DanqingError("nan_picture", name=model.checkpoint.name))
            continue
        pixels = ((image + 1) / 2).clamp(0, 1) * 255
        answers.append(pixels.permute(1, 2, 0).to(torch.uint8).contiguous().numpy())
    return answers


def encode(calls: Sequence[EncodeImage], device: torch.device) -> list[torch.Tensor]:
    """Scaled latents of every call, (4, h / 8, w / 8) float32: the posterior's mean, so that a seed gives one picture."""
    model: Model = calls[0].model
    images = torch.stack([call.pixels.permute(2, 0, 1) for call in calls]).to(device, model.vae.dtype)
    mean = model.vae.encode(images).latent_dist.mean.float().cpu()
    return list((mean * model.vae.config.scaling_factor).unbind(0))
