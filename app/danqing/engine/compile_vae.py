"""The VAE in the shape in which it is compiled: the decoder, or the encoder, from numbers to numbers.

Rows are free, height and width are fixed. Only what runs in one piece is compiled: strips (`strips.py`) are single layers of any
height, in which there is little to fuse.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import nn

from danqing.engine.compile_unet import described

Variant = Literal["decode", "encode"]
"""`decode`: latents to pixels. `encode`: pixels to the mean of the posterior."""

VARIANTS: tuple[Variant, ...] = get_args(Variant)

SCALE = 8
"""Pixels by latent, each way."""


class Coder(nn.Module):
    """One half of an `AutoencoderKL`, under the whole one's names. Takes and gives unscaled latents."""

    def __init__(self, vae: Any, variant: Variant) -> None:
        super().__init__()
        if variant == "decode":
            self.post_quant_conv, self.decoder = vae.post_quant_conv, vae.decoder
        else:
            self.encoder, self.quant_conv = vae.encoder, vae.quant_conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, 4, h, w) to (rows, 3, 8h, 8w), or back."""
        if hasattr(self, "decoder"):
            pixels: torch.Tensor = self.decoder(self.post_quant_conv(x))
            return pixels
        mean: torch.Tensor = self.quant_conv(self.encoder(x)).chunk(2, 1)[0]
        return mean


def example(vae: Any, variant: Variant, height: int, width: int, rows: int = 2) -> tuple[torch.Tensor]:
    """Random inputs; height and width of the latent. The same for the same VAE's shape."""
    parameter = next(vae.parameters())
    shape = (vae.config.latent_channels, height, width)
    if variant == "encode":
        shape = (vae.config.in_channels, SCALE * height, SCALE * width)
    drawn = torch.randn((rows, *shape), generator=torch.Generator().manual_seed(rows))
    return (drawn.to(parameter.device, parameter.dtype),)


def free_dimensions() -> tuple[Any]:
    """Which dimensions of `example` compiled code must take as they come."""
    return ({0: torch.export.Dim.DYNAMIC},)


def architecture_of(vae: Any) -> str:
    """16 hex digits: VAEs that share them run the same compiled code."""
    return described(vae, ("norm_num_groups", "layers_per_block", "act_fn"))
