"""A start for the VAE that is already a fair one: the linear autoencoder of 8x8 averages.

Colour channel j travels as four channels (+x, -x, K, -K). SiLU(x) - SiLU(-x) = x makes the
non-linearities exact, the constants keep GroupNorm's scale from depending on the picture, and all
residual branches start small. About 22 dB before the first step, where a default start takes minutes.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL

CONSTANT = 3.0
COLOURS = 3
CARRIED = 4 * COLOURS
GAIN = 1.3


@torch.no_grad()
def start_linear(vae: AutoencoderKL) -> AutoencoderKL:
    """Overwrite a new VAE's weights in place with the linear start; needs groups of four at the ends."""
    for module in vae.modules():
        kind = type(module).__name__
        if kind == "ResnetBlock2D":
            _residual(module)
        elif kind == "Attention":
            module.to_out[0].weight.mul_(0.2)
            module.to_out[0].bias.zero_()
        elif kind in ("Downsample2D", "Upsample2D"):
            _resample(module.conv, down=kind == "Downsample2D")
    for conv in (vae.encoder.conv_in, vae.decoder.conv_in):
        _enter(conv)
    _leave_encoder(vae.encoder.conv_out, vae.config.block_out_channels[-1] // vae.config.norm_num_groups)
    _leave_decoder(vae.decoder.conv_out)
    for conv in (vae.quant_conv, vae.post_quant_conv):
        conv.weight.copy_(torch.eye(conv.weight.shape[0])[:, :, None, None])
        conv.bias.zero_()
    return vae


def _residual(block: Any) -> None:
    block.conv2.weight.mul_(0.3)
    block.conv2.weight[:CARRIED].mul_(0.2)
    block.conv2.bias.zero_()
    if block.conv_shortcut is not None:
        block.conv_shortcut.weight[:CARRIED].zero_()
        block.conv_shortcut.bias[:CARRIED].zero_()
        for channel in range(CARRIED):
            block.conv_shortcut.weight[channel, channel, 0, 0] = 1


def _resample(conv: Any, down: bool) -> None:
    conv.weight[:CARRIED].zero_()
    conv.bias[:CARRIED].zero_()
    for channel in range(CARRIED):
        if down:
            conv.weight[channel, channel, :2, :2] = 0.25
        else:
            conv.weight[channel, channel, 1, 1] = 1


def _enter(conv: Any) -> None:
    conv.weight[:CARRIED].zero_()
    conv.bias[:CARRIED].zero_()
    for colour in range(COLOURS):
        conv.weight[4 * colour, colour, 1, 1] = 1
        conv.weight[4 * colour + 1, colour, 1, 1] = -1
        conv.bias[4 * colour + 2] = CONSTANT
        conv.bias[4 * colour + 3] = -CONSTANT


def _leave_encoder(conv: Any, group: int) -> None:
    """Latents 0..2 are the averaged colours, the fourth is free; log-variances start at -4."""
    deviation = (COLOURS * 2 * (CONSTANT**2 + 0.5) / group) ** 0.5
    conv.weight.mul_(0.3)
    conv.weight[:COLOURS].zero_()
    conv.weight[4:].mul_(0.1)
    conv.bias.zero_()
    conv.bias[4:] = -4
    for colour in range(COLOURS):
        conv.weight[colour, 4 * colour, 1, 1] = deviation * GAIN
        conv.weight[colour, 4 * colour + 1, 1, 1] = -deviation * GAIN


def _leave_decoder(conv: Any) -> None:
    deviation = (CONSTANT**2 + 0.5) ** 0.5 / 2**0.5
    conv.weight.mul_(0.1)
    conv.bias.zero_()
    for colour in range(COLOURS):
        conv.weight[colour, 4 * colour, 1, 1] += deviation / GAIN
        conv.weight[colour, 4 * colour + 1, 1, 1] -= deviation / GAIN
