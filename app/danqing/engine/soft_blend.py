"""Soft inpainting's way of keeping the input while sampling, as a sampler takes it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from danqing.imaging import soft
from danqing.request import SoftInpainting


def soft_blend(
    repaint: torch.Tensor, kept: torch.Tensor, settings: SoftInpainting
) -> Callable[[torch.Tensor, float | None], torch.Tensor]:
    """(x, sigma) to x mixed with `kept` (4, h, w), by the grey latent mask `repaint` (1, h, w), on the CPU.

    Without a sigma, at the end of sampling, x stays as it is.
    """
    mask, input_latent = repaint[0].numpy(), kept.numpy()

    def blend(x: torch.Tensor, sigma: float | None) -> torch.Tensor:
        if sigma is None:
            return x
        return torch.from_numpy(soft.blended(x.numpy(), input_latent, mask, sigma, settings))

    return blend
