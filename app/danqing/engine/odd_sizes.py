"""Latents whose sides do not halve evenly: how the UNet grows back to the sizes it came from.

The original network always doubles and convolves, and the result is then brought to the skip connection's size by nearest
neighbours; diffusers resizes first and convolves after, which gives another picture.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.upsampling import Upsample2D


class EvenUpsample2D(Upsample2D):  # type: ignore[misc]
    """`Upsample2D` that doubles, convolves, and only then meets a wanted size."""

    def forward(self, hidden_states: torch.Tensor, output_size: Any = None, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(B, C, h, w) to (B, C, 2h, 2w), or to `output_size` (height, width)."""
        grown: torch.Tensor = super().forward(hidden_states, None)
        if output_size is not None and tuple(grown.shape[-2:]) != tuple(output_size):
            grown = torch.nn.functional.interpolate(grown, size=tuple(output_size), mode="nearest")
        return grown


def even(unet: Any) -> Any:
    """The UNet with its upsamplers replaced; the weights stay where they are."""
    for module in unet.modules():
        if type(module) is Upsample2D:
            module.__class__ = EvenUpsample2D
    return unet
